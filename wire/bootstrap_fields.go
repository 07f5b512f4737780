package wire

// Type returns TypeBootstrap.
func (*Bootstrap) Type() Type { return TypeBootstrap }

// Hosts leave out everything that they do not set, and so do we.
func (m *Bootstrap) fields() []field {
	return []field{
		omitted("block_root", nullableKind[BlockRoot]{kinded[BlockRoot]{&m.BlockRoot, BlockRoot.blockRoot, blockRoots}}),
		omitted("dir_mounts", objects(&m.DirMounts)),
		omitted("file_mounts", objects(&m.FileMounts)),
		omitted("disk_mounts", objects(&m.DiskMounts)),
		omitted("tmpfs_mounts", objects(&m.TmpfsMounts)),
		omitted("hostname", optionalText(&m.Hostname)),
		omitted("host_alias", optionalText(&m.HostAlias)),
		omitted("network", optionalObject(&m.Network)),
		omitted("rlimits", objects(&m.Rlimits)),
		omitted("user", optionalText(&m.User)),
		omitted("default_cwd", optionalText(&m.DefaultCwd)),
		omitted("default_env", objects(&m.DefaultEnv)),
		omitted("security_profile", oneOf(&m.SecurityProfile, ProfileDefault, ProfileRestricted)),
		omitted("handoff_init", optionalObject(&m.HandoffInit)),
		omitted("fresh", optionalObject(&m.Fresh)),
		omitted("stored_credit", truth(&m.StoredCredit)),
	}
}

var blockRoots = alternatives[BlockRoot]{
	{"disk-image", func() BlockRoot { return new(DiskImage) }},
	{"oci-erofs", func() BlockRoot { return new(OCIErofs) }},
}

func (d *DiskImage) blockRoot() (string, entries) {
	return "disk-image", entries{
		required("device", text(&d.Device)),
		omitted("fstype", optionalText(&d.FSType)),
	}
}

func (o *OCIErofs) blockRoot() (string, entries) {
	return "oci-erofs", entries{
		required("lower", text(&o.Lower)),
		required("upper", kinded[Upper]{&o.Upper, Upper.upper, uppers}),
	}
}

var uppers = alternatives[Upper]{
	{"device", func() Upper { return new(UpperDevice) }},
	{"tmpfs", func() Upper { return new(UpperTmpfs) }},
}

func (u *UpperDevice) upper() (string, entries) {
	return "device", entries{
		required("device", text(&u.Device)),
		required("fstype", text(&u.FSType)),
	}
}

func (u *UpperTmpfs) upper() (string, entries) {
	return "tmpfs", entries{omitted("size_mib", optionalNumber(&u.SizeMiB))}
}

func (f *MountFlags) fields() []field {
	return []field{
		defaulted("readonly", truth(&f.ReadOnly)),
		defaulted("noexec", truth(&f.NoExec)),
		defaulted("nosuid", truth(&f.NoSuid)),
		defaulted("nodev", truth(&f.NoDev)),
	}
}

func (m *DirMount) fields() []field {
	return []field{
		required("tag", text(&m.Tag)),
		required("guest_path", text(&m.GuestPath)),
		defaulted("flags", object(&m.Flags)),
	}
}

func (m *FileMount) fields() []field {
	return []field{
		required("tag", text(&m.Tag)),
		required("filename", text(&m.Filename)),
		required("guest_path", text(&m.GuestPath)),
		defaulted("flags", object(&m.Flags)),
	}
}

func (m *DiskMount) fields() []field {
	return []field{
		required("id", text(&m.ID)),
		required("guest_path", text(&m.GuestPath)),
		omitted("fstype", optionalText(&m.FSType)),
		defaulted("flags", object(&m.Flags)),
	}
}

func (m *TmpfsMount) fields() []field {
	return []field{
		required("path", text(&m.Path)),
		omitted("size_mib", optionalNumber(&m.SizeMiB)),
		omitted("mode", optionalNumber(&m.Mode)),
		defaulted("flags", object(&m.Flags)),
	}
}

func (n *Network) fields() []field {
	return []field{
		required("interface", text(&n.Interface)),
		required("mac", array(n.MAC[:])),
		required("mtu", num(&n.MTU)),
		omitted("ipv4", optionalObject(&n.IPv4)),
		omitted("ipv6", optionalObject(&n.IPv6)),
	}
}

func (a *IPv4) fields() []field {
	return []field{
		required("address", array(a.Address[:])),
		required("prefix_len", num(&a.PrefixLen)),
		required("gateway", array(a.Gateway[:])),
		omitted("dns", optional(&a.DNS, array4)),
	}
}

func array4(p *[4]byte) value { return array(p[:]) }

func (a *IPv6) fields() []field {
	return []field{
		required("address", array(a.Address[:])),
		required("prefix_len", num(&a.PrefixLen)),
		required("gateway", array(a.Gateway[:])),
		omitted("dns", optional(&a.DNS, array16)),
	}
}

func (r *Rlimit) fields() []field {
	return []field{
		required("resource", text(&r.Resource)),
		required("soft", num(&r.Soft)),
		required("hard", num(&r.Hard)),
	}
}

func (v *EnvVar) fields() []field {
	return []field{
		required("key", text(&v.Key)),
		required("value", text(&v.Value)),
	}
}

func (h *HandoffInit) fields() []field {
	return []field{
		required("cmd", text(&h.Cmd)),
		omitted("args", texts(&h.Args)),
		omitted("cwd", optionalText(&h.Cwd)),
		omitted("env", objects(&h.Env)),
	}
}

func (f *Fresh) fields() []field {
	return []field{
		required("entropy", array(f.Entropy[:])),
		required("unix_time_nanos", num(&f.UnixTimeNanos)),
		omitted("disks", texts(&f.Disks)),
	}
}
