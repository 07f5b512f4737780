package main

import (
	"fmt"
	"io"
	"net/http"
)

// request asks a server in the machine, which has no network card: the agent makes the
// connection. The page is one that copyTree has copied.
func request(v *visit) error {
	// The server goes to the background by itself, and listens already when it does.
	if err := v.c.CommandContext(v.ctx, "httpd", "-p", "127.0.0.1:80", "-h", "/srv/tree/web").Run(); err != nil {
		return err
	}
	web := http.Client{Transport: &http.Transport{DialContext: v.c.DialContext}}
	defer web.CloseIdleConnections()
	ask, err := http.NewRequestWithContext(v.ctx, http.MethodGet, "http://127.0.0.1/index.html", nil)
	if err != nil {
		return err
	}
	answer, err := web.Do(ask)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	page, err := io.ReadAll(answer.Body)
	if err == nil && string(page) != "a page\n" {
		err = fmt.Errorf("%s: %q", answer.Status, page)
	}
	return err
}
