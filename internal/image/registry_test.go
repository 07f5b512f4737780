package image

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/agentd-go/agentd/internal/image/oci"
	"github.com/agentd-go/agentd/internal/imagetest"
)

// push puts the second image of a layout into a registry that lives as long as the
// test, behind a front that may refuse, delay or change what is asked for later.
func push(t *testing.T, dir string, front func(http.Handler) http.Handler) (reference string) {
	t.Helper()
	behind := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	var handler atomic.Pointer[http.Handler]
	handler.Store(&behind)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*handler.Load()).ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	reference = strings.TrimPrefix(server.URL, "http://") + "/small:1"
	index, err := layout.ImageIndexFromPath(dir)
	must(t, err)
	manifest, err := index.IndexManifest()
	must(t, err)
	// The library pushes all that an index names; the foreign image is not there.
	img, err := index.Image(manifest.Manifests[1].Digest)
	must(t, err)
	ref, err := name.ParseReference(reference)
	must(t, err)
	must(t, remote.Write(ref, img))
	if front != nil {
		h := front(behind)
		handler.Store(&h)
	}
	return reference
}

// pushed is a registry with an image of so many layers.
func pushed(t *testing.T, layers int, front func(http.Handler) http.Handler) (reference string, img imagetest.Image) {
	t.Helper()
	for n := range layers {
		img.Layers = append(img.Layers, imagetest.Files(t, fmt.Sprint("file", n), strings.Repeat(strconv.Itoa(n), 1000)))
	}
	dir := t.TempDir()
	imagetest.Unpack(t, dir, img.Layout(t, "gzip"))
	return push(t, dir, front), img
}

// isLayer reports whether somebody asks for a blob, of which all but the small
// configuration are layers.
func isLayer(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/")
}

// Layers are fetched some at once, no more, and written in their order.
func TestFetchesAtOnce(t *testing.T) {
	const layers = 3*fetchesAtOnce + 1
	var now, most atomic.Int64
	full := make(chan struct{}) // Closed when as many are asked for as ever are.
	var once, configuration sync.Once
	reference, img := pushed(t, layers, func(behind http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			first := false
			if isLayer(r) {
				configuration.Do(func() { first = true })
			}
			if isLayer(r) && !first {
				n := now.Add(1)
				defer now.Add(-1)
				for before := most.Load(); n > before && !most.CompareAndSwap(before, n); before = most.Load() {
				}
				if n == fetchesAtOnce {
					once.Do(func() { close(full) })
				}
				select {
				case <-full:
				case <-r.Context().Done(): // Nobody asks for more while this one waits.
				}
			}
			behind.ServeHTTP(w, r)
		})
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var mu sync.Mutex
	var done, all int64
	ctx = WithProgress(ctx, func(d, a int64) {
		mu.Lock()
		defer mu.Unlock()
		done, all = max(done, d), max(all, a) // They come from several goroutines, in any order.
	})
	c := openCache(t)
	i, err := c.ImportImage(ctx, reference, "")
	must(t, err)
	if got := most.Load(); got != fetchesAtOnce {
		t.Errorf("%d at once, want %d", got, fetchesAtOnce)
	}
	if !bytes.Equal(read(t, i.Path), lower(t, img.Layers...)) {
		t.Error("the lower is another")
	}
	if done != all || all == 0 {
		t.Errorf("progress ends at %d of %d", done, all)
	}
	checkNoRest(t, c)
}

// The credentials of docker login open a registry, and no others do.
func TestRegistryCredentials(t *testing.T) {
	reference, _ := pushed(t, 2, func(behind http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if user, password, _ := r.BasicAuth(); user != "ann" || password != "secret" {
				w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			behind.ServeHTTP(w, r)
		})
	})
	host, _, _ := strings.Cut(reference, "/")
	for password, want := range map[string]string{"": "UNAUTHORIZED", "wrong": "UNAUTHORIZED", "secret": ""} {
		dir := t.TempDir()
		t.Setenv("DOCKER_CONFIG", dir)
		if password != "" {
			auth := base64.StdEncoding.EncodeToString([]byte("ann:" + password))
			writeFile(t, filepath.Join(dir, "config.json"), fmt.Appendf(nil, `{"auths":{%q:{"auth":%q}}}`, host, auth))
		}
		c := openCache(t)
		_, err := c.ImportImage(t.Context(), reference, "")
		if want == "" {
			must(t, err)
		} else if err == nil || !strings.Contains(strings.ToUpper(err.Error()), want) {
			t.Errorf("with the password %q: %v", password, err)
		}
		checkNoRest(t, c)
	}
}

// After a registry that lies, stops or hangs nothing is left, and the error says why.
func TestBadRegistries(t *testing.T) {
	respond := func(answer func(w http.ResponseWriter, r *http.Request, layer []byte)) func(http.Handler) http.Handler {
		return func(behind http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				kept := httptest.NewRecorder()
				behind.ServeHTTP(kept, r)
				if b := kept.Body.Bytes(); isLayer(r) && bytes.HasPrefix(b, gzipMagic) {
					answer(w, r, b)
					return
				}
				maps.Copy(w.Header(), kept.Header())
				w.WriteHeader(kept.Code)
				_, _ = w.Write(kept.Body.Bytes())
			})
		}
	}
	cause := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	for _, tt := range []struct {
		name, want string
		answer     func(w http.ResponseWriter, r *http.Request, layer []byte)
	}{
		{"gone", "layer 1 of 2: ", func(w http.ResponseWriter, _ *http.Request, _ []byte) { w.WriteHeader(http.StatusNotFound) }},
		{"changed", "layer 1 of 2: ", func(w http.ResponseWriter, _ *http.Request, b []byte) {
			_, _ = w.Write(append(b[:len(b)-1:len(b)-1], b[len(b)-1]^1))
		}},
		{"longer", "named were", func(w http.ResponseWriter, _ *http.Request, b []byte) { _, _ = w.Write(append(b, b...)) }},
		{"cut short", "layer 1 of 2: ", func(w http.ResponseWriter, _ *http.Request, b []byte) {
			w.Header().Set("Content-Length", strconv.Itoa(len(b)))
			_, _ = w.Write(b[:len(b)/2])
		}},
		{"hangs", "interrupted", func(w http.ResponseWriter, r *http.Request, b []byte) {
			_, _ = w.Write(b[:len(b)/2])
			_ = http.NewResponseController(w).Flush()
			cancel(cause)
			<-r.Context().Done()
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := openCache(t)
			reference, _ := pushed(t, 2, respond(tt.answer))
			if _, err := c.ImportImage(ctx, reference, ""); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
			checkNoImage(t, c)
		})
	}
}

// A fetch goes on as long as something comes, and ends a minute after the last of it.
func TestStalledFetch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "layer")
	synctest.Test(t, func(t *testing.T) {
		const pieces = 10
		start := time.Now()
		open := func(ctx context.Context) (io.ReadCloser, error) {
			r, w := io.Pipe()
			context.AfterFunc(ctx, func() { _ = w.CloseWithError(errors.New("cut")) })
			go func() {
				for range pieces {
					time.Sleep(stallWait - time.Second)
					_, _ = w.Write([]byte("piece"))
				}
			}()
			return r, nil
		}
		f := &fetch{layer: oci.Layer{Size: 1 << 20, Open: open}, path: path, done: make(chan struct{})}
		f.run(t.Context())
		if _, err := f.open(t.Context()); !errors.Is(err, ErrStalled) {
			t.Errorf("got %v", err)
		}
		if got, want := time.Since(start), pieces*(stallWait-time.Second)+stallWait; got != want {
			t.Errorf("ended after %v, want %v", got, want)
		}
	})
}
