package esnode

import (
	"encoding/base64"
	"slices"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/gossip"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// dialTo is a bare connection to an address, closed with the test.
func dialTo(t testing.TB, address string, transport credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(transport))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Errorf("close connection: %v", err)
		}
	})
	return conn
}

// basic is what a call of a user carries.
func basic(name, password string) metadata.MD {
	return metadata.Pairs(headerAuthorization, basicPrefix+base64.StdEncoding.EncodeToString([]byte(name+":"+password)))
}

// A follower shows what the leader has acknowledged later, the same in the same order;
// its subscriptions of $all and of a stream go on with it, and what it forwards is written.
func TestFollowerLags(t *testing.T) {
	n := openStrict(t, t.TempDir(), &Strict{Follower: true, FollowerLag: time.Millisecond, Offsets: true, NoIdentity: true}, time.Now)
	conn := dialTo(t, n.FollowerAddr(), insecureTransport)
	var subscriptions []streams.Streams_ReadClient
	for _, options := range []*streams.ReadReq_Options{fromAll(), fromStream("s")} {
		options.CountOption = &streams.ReadReq_Options_Subscription{Subscription: &streams.ReadReq_Options_SubscriptionOptions{}}
		call, err := streams.NewStreamsClient(conn).Read(testContext(t), &streams.ReadReq{Options: options})
		if err != nil {
			t.Fatal(err)
		}
		receive(t, call) // that it is confirmed
		subscriptions = append(subscriptions, call)
	}
	var want []uint64
	for range 20 {
		answer, err := appendBatch(t, conn, batchOf("s", nil, 1))
		if err != nil || answer.GetSuccess() == nil {
			t.Fatalf("%v, %v", answer, err)
		}
		want = append(want, answer.GetSuccess().GetPosition().GetCommitPosition())
	}
	for i, call := range subscriptions {
		var got []uint64
		for len(got) < len(want) {
			if e := receive(t, call).GetEvent(); e != nil {
				got = append(got, e.GetCommitPosition())
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("subscription %d brings %v, want %v", i, got, want)
		}
	}
}

// What the leader has shown and the follower has not is neither in the follower's $all
// nor in its streams.
func TestFollowerShowsNoMoreThanItHas(t *testing.T) {
	n := openStrict(t, t.TempDir(), &Strict{Follower: true, FollowerLag: time.Hour, NoIdentity: true}, time.Now)
	write(t, n.store, "s", 2)
	leader, follower := dial(t, n), dialTo(t, n.FollowerAddr(), insecureTransport)
	for what, options := range map[string]func() *streams.ReadReq_Options{"$all": fromAll, "s": func() *streams.ReadReq_Options { return fromStream("s") }} {
		if list, err := rawRead(t, leader, options(), everything); err != nil || len(list) != 2 {
			t.Errorf("%s of the leader: %d events, %v", what, len(list), err)
		}
		list, err := rawRead(t, follower, options(), everything)
		if notFound := len(list) == 1 && list[0].GetStreamNotFound() != nil; err != nil || len(list) > 0 && !notFound {
			t.Errorf("%s of the follower: %v, %v", what, list, err)
		}
	}
	if position := write(t, n.store, "s", 1).position; n.cluster.behind.position.Load() >= position {
		t.Error("the follower is not behind")
	}
}

// When the two change their roles gossip says so, calls that require the leader are sent
// to the other one, and an open call of BatchAppend that requires it ends.
func TestLeaderChanges(t *testing.T) {
	n := openStrict(t, t.TempDir(), &Strict{Follower: true, NoIdentity: true}, time.Now)
	conns := []*grpc.ClientConn{dial(t, n), dialTo(t, n.FollowerAddr(), insecureTransport)}
	requires := metadata.NewOutgoingContext(testContext(t), metadata.Pairs(headerRequiresLeader, "true"))
	batch, err := streams.NewStreamsClient(conns[0]).BatchAppend(requires)
	if err != nil {
		t.Fatal(err)
	}
	send := func() (*streams.BatchAppendResp, error) {
		if err := batch.Send(batchOf("s", nil, 1)); err != nil {
			t.Fatal(err)
		}
		return batch.Recv()
	}
	if answer, err := send(); err != nil || answer.GetSuccess() == nil {
		t.Fatalf("%v, %v", answer, err)
	}
	for leader := range conns {
		for i, conn := range conns {
			info, err := gossip.NewGossipClient(conn).Read(testContext(t), &shared.Empty{})
			if err != nil || len(info.GetMembers()) != 2 {
				t.Fatalf("%v, %v", info, err)
			}
			for k, m := range info.GetMembers() {
				if (m.GetState() == gossip.MemberInfo_Leader) != (k == leader) {
					t.Errorf("member %d is %v, the leader is %d", k, m.GetState(), leader)
				}
			}
			call, err := streams.NewStreamsClient(conn).Read(requires, &streams.ReadReq{Options: readOptions(fromStream("s"), 1)})
			if err != nil {
				t.Fatal(err)
			}
			if _, err = received(call); (status.Code(err) == codes.OK) != (i == leader) {
				t.Errorf("member %d answers a call that requires the leader, which is %d, with %v", i, leader, err)
			}
		}
		n.ChangeLeader()
		if leader == 0 {
			if answer, err := send(); status.Code(err) != codes.NotFound || batch.Trailer().Get("exception")[0] != exceptionNotLeader {
				t.Errorf("the open call goes on with %v, %v", answer, err)
			}
		}
	}
}

// The official client finds the members by gossip and writes through either.
func TestOfficialClientFindsTheFollower(t *testing.T) {
	n := openStrict(t, t.TempDir(), &Strict{Follower: true, NoIdentity: true}, time.Now)
	c := connectTo(t, "esdb://"+n.Addr()+","+n.FollowerAddr()+"?tls=false&nodePreference=follower")
	done := mustAppend(t, c, "s", esdb.NoStream{}, events(2)...)
	if err := n.cluster.behind.reach(testContext(t), done.CommitPosition, n.store.stop); err != nil {
		t.Fatal(err)
	}
	if list, err := readStream(t, c, "s", esdb.ReadStreamOptions{}, everything); err != nil || len(list) != 2 {
		t.Errorf("%d events, %v", len(list), err)
	}
}
