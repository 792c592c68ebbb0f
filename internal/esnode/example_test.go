package esnode_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"

	"github.com/rapport-crm/rapport/internal/esnode"
)

// A node in a directory, and the official client writing to it and reading back.
func Example() {
	dir, err := os.MkdirTemp("", "esnode")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	node, err := esnode.Open(ctx, esnode.Options{Dir: dir})
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()

	config, err := esdb.ParseConnectionString(node.ConnectionString())
	if err != nil {
		log.Fatal(err)
	}
	config.Logger = esdb.NoopLogging()
	client, err := esdb.NewClient(config)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	_, err = client.AppendToStream(ctx, "main.deal-1", esdb.AppendToStreamOptions{ExpectedRevision: esdb.NoStream{}},
		esdb.EventData{EventType: "deal.opened", ContentType: esdb.ContentTypeJson, Data: []byte(`{"title":"Windmill"}`)})
	if err != nil {
		log.Fatal(err)
	}
	stream, err := client.ReadStream(ctx, "main.deal-1", esdb.ReadStreamOptions{}, 10)
	if err != nil {
		log.Fatal(err)
	}
	defer stream.Close()
	resolved, err := stream.Recv()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(resolved.Event.EventNumber, resolved.Event.EventType, string(resolved.Event.Data))
	// Output: 0 deal.opened {"title":"Windmill"}
}
