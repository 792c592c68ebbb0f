package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/rapport-crm/rapport/internal/esnode"
)

type nodeCommand struct {
	Data   string `help:"Directory of the installation; the log lies in its folder events; ${default} when left out." default:"data" type:"path" placeholder:"DIR"`
	Listen string `help:"Loopback address to listen on; ${default} when left out." default:"127.0.0.1:2113" placeholder:"HOST:PORT"`
}

// Help shows an example.
func (nodeCommand) Help() string {
	return "Example: rapport node --data data --listen 127.0.0.1:2113\n\n" +
		"Any EventStoreDB client may connect with the connection string that is printed. One process at a time uses a directory."
}

// Run serves until the context ends.
func (n nodeCommand) Run(ctx context.Context, c *console) error {
	s := stores{Data: n.Data}
	if err := s.prepare(); err != nil {
		return err
	}
	node, err := esnode.Open(ctx, esnode.Options{Dir: filepath.Join(n.Data, nodeDir), Listen: n.Listen, Logger: c.log})
	if err != nil {
		return err
	}
	fmt.Fprintln(c.out, node.ConnectionString())
	<-ctx.Done()
	return node.Close()
}
