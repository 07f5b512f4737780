/*
 * A plug-in of QEMU that counts what a guest executes. "bench -count" builds it and reads the
 * counters. Arguments:
 *
 *   counts=FILE   the counters, an array of 64-bit numbers that is shared with the reader
 *   table=FILE    one line for each watched function: its address (hexadecimal) and its counter
 *   blocks=FILE   pairs of an address and the instructions of the blocks of user space there, as
 *                 many as the file has room for; optional
 *
 * Counters 0, 1 and 2 are the instructions of user space, those of the kernel, and the steps of
 * repeated string instructions, each of which costs little. A block that an exception leaves
 * counts as a whole.
 *
 * The declarations are those of qemu-plugin.h (interface version 1), which Debian has in no package.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum { ADD_U64 = 0 };
typedef void (*translated)(qemu_plugin_id_t, struct qemu_plugin_tb *);
extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, translated);
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int, void *, uint64_t);
extern void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *, int, void *, uint64_t);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
extern const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
extern size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *);
extern uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

enum { USER, KERNEL, STRINGS, PLACES = 1 << 13 };

static uint64_t *counts;
static uint64_t places; /* In counts. */

/* Watched functions by address: open addressing. */
static struct { uint64_t address, counter; } watched[PLACES];

/* Blocks of user space by address, in the same way. */
static struct { uint64_t address, instructions; } *blocks;
static size_t room;

static void *block(uint64_t address)
{
	size_t at = (address * 0x9e3779b97f4a7c15u >> 20) % room;
	for (size_t tries = 0; tries < 64; tries++, at = (at + 1) % room) {
		if (!blocks[at].address)
			blocks[at].address = address;
		if (blocks[at].address == address)
			return &blocks[at].instructions;
	}
	return NULL; /* Full: not counted. */
}

static size_t place(uint64_t address)
{
	size_t at = (address >> 4) % PLACES;
	while (watched[at].address && watched[at].address != address)
		at = (at + 1) % PLACES;
	return at;
}

/* A repeated string instruction: prefixes, one of them F2 or F3, and a code between A4 and AF. */
static bool repeats(const struct qemu_plugin_insn *insn)
{
	const unsigned char *b = qemu_plugin_insn_data(insn);
	size_t n = qemu_plugin_insn_size(insn), i = 0;
	bool prefixed = false;
	for (; i < n && (b[i] == 0xf2 || b[i] == 0xf3 || b[i] == 0x66 || b[i] == 0x67 || (b[i] & 0xf0) == 0x40); i++)
		prefixed |= b[i] == 0xf2 || b[i] == 0xf3;
	return prefixed && i == n - 1 && b[i] >= 0xa4 && b[i] <= 0xaf && b[i] != 0xa8 && b[i] != 0xa9;
}

static void count(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	size_t n = qemu_plugin_tb_n_insns(tb), plain = 0;
	bool kernel = false;
	for (size_t i = 0; i < n; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		uint64_t address = qemu_plugin_insn_vaddr(insn);
		size_t at = place(address);
		kernel = address >> 63;
		if (repeats(insn))
			qemu_plugin_register_vcpu_insn_exec_inline(insn, ADD_U64, &counts[STRINGS], 1);
		else
			plain++;
		if (watched[at].address)
			qemu_plugin_register_vcpu_insn_exec_inline(insn, ADD_U64, &counts[watched[at].counter], 1);
	}
	if (plain)
		qemu_plugin_register_vcpu_tb_exec_inline(tb, ADD_U64, &counts[kernel ? KERNEL : USER], plain);
	void *here = plain && !kernel && room ? block(qemu_plugin_insn_vaddr(qemu_plugin_tb_get_insn(tb, 0))) : NULL;
	if (here)
		qemu_plugin_register_vcpu_tb_exec_inline(tb, ADD_U64, here, plain);
}

/* share maps a file. */
static void *share(const char *path, size_t *size)
{
	struct stat s;
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &s))
		return MAP_FAILED;
	*size = (size_t)s.st_size;
	return mmap(NULL, *size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
}

static int watch(const char *path)
{
	uint64_t address, counter, n = 0;
	FILE *f = fopen(path, "re");
	if (!f)
		return -1;
	while (fscanf(f, "%" SCNx64 " %" SCNu64, &address, &counter) == 2) {
		if (!address || counter >= places || ++n > PLACES / 2)
			return -1;
		size_t at = place(address);
		watched[at].address = address;
		watched[at].counter = counter;
	}
	return fclose(f);
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv)
{
	const char *table = NULL;
	size_t size = 0;
	for (int i = 0; i < argc; i++) {
		if (!strncmp(argv[i], "counts=", 7)) {
			counts = share(argv[i] + 7, &size);
			places = size / sizeof *counts;
		} else if (!strncmp(argv[i], "table=", 6)) {
			table = argv[i] + 6;
		} else if (!strncmp(argv[i], "blocks=", 7)) {
			blocks = share(argv[i] + 7, &size);
			room = size / sizeof *blocks;
		}
	}
	if (counts == MAP_FAILED || blocks == MAP_FAILED || places <= STRINGS || !table || watch(table)) {
		fprintf(stderr, "counter: bad counts=, table= or blocks=\n");
		return -1;
	}
	qemu_plugin_register_vcpu_tb_trans_cb(id, count);
	return 0;
}
