package esnode

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/test/bufconn"
)

// An idle subscription outlives the pings of its client, which come every 10 s as the
// official client sends them: for an hour, by the clock of the bubble.
func TestIdleSubscriptionOutlivesKeepalive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s, err := openStore(ctx, storeOptions{dir: "log", fs: vfs.NewMem(), now: time.Now, logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		listener := bufconn.Listen(64 << 10)
		server := newServer(&streamsService{store: s}, &cluster{})
		go func() { _ = server.Serve(listener) }()
		conn, err := grpc.NewClient("passthrough:///bufconn",
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
			grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 10 * time.Second, PermitWithoutStream: true}))
		if err != nil {
			t.Fatal(err)
		}
		sub, err := streams.NewStreamsClient(conn).Read(ctx, &streams.ReadReq{Options: &streams.ReadReq_Options{
			StreamOption: &streams.ReadReq_Options_All{All: &streams.ReadReq_Options_AllOptions{
				AllOption: &streams.ReadReq_Options_AllOptions_End{End: &shared.Empty{}},
			}},
			CountOption: &streams.ReadReq_Options_Subscription{Subscription: &streams.ReadReq_Options_SubscriptionOptions{}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		received := make(chan *streams.ReadResp)
		go func() {
			defer close(received)
			for {
				resp, err := sub.Recv()
				if err != nil {
					if ctx.Err() == nil {
						t.Errorf("the idle subscription ended: %v", err)
					}
					return
				}
				received <- resp
			}
		}()
		if (<-received).GetConfirmation() == nil || (<-received).GetCaughtUp() == nil {
			t.Error("the subscription was not confirmed and caught up")
		}
		select {
		case <-received:
		case <-time.After(time.Hour):
		}
		if _, err := s.append(ctx, "s", expectNoStream, proposals("s", 1)); err != nil {
			t.Error(err)
		}
		if (<-received).GetEvent() == nil {
			t.Error("the subscription is deaf")
		}
		cancel()
		<-received // closed
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		s.stopReaders()
		server.Stop()
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
}
