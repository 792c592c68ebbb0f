package esnode

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/gossip"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

var insecureTransport = insecure.NewCredentials()

// ownCertificate is one for loopback that it has signed itself, and who trusts it.
func ownCertificate(t testing.TB) (*tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, pool
}

// A node with a certificate serves who trusts it. Who does not, and who speaks plain
// text, gets no answer, and the two errors differ.
func TestNodeSpeaksTLS(t *testing.T) {
	certificate, pool := ownCertificate(t)
	n := openStrict(t, t.TempDir(), &Strict{Certificate: certificate, Follower: true}, time.Now)
	for _, address := range []string{n.Addr(), n.FollowerAddr()} {
		texts := map[string]bool{}
		for trusted, transport := range map[bool][]credentials.TransportCredentials{
			true:  {credentials.NewTLS(&tls.Config{RootCAs: pool})},
			false: {insecureTransport, credentials.NewTLS(&tls.Config{RootCAs: x509.NewCertPool()})},
		} {
			for _, tr := range transport {
				_, err := gossip.NewGossipClient(dialTo(t, address, tr)).Read(testContext(t), &shared.Empty{})
				if (err == nil) != trusted {
					t.Errorf("%s, trusted %v: %v", tr.Info().SecurityProtocol, trusted, err)
				}
				if err != nil {
					texts[status.Convert(err).Message()] = true
				}
			}
		}
		if len(texts) != 2 {
			t.Errorf("the errors are %v", texts)
		}
	}
}

// A user may read $all as soon as its metadata names the user, alone or among others.
func TestMetadataOfAllGrantsItsReading(t *testing.T) {
	for text, granted := range map[string]bool{
		`{"$acl":{"$r":"crm"}}`: true, `{"$acl":{"$r":["$admins","crm"]}}`: true, `{"$acl":{"$r":["$admins"]}}`: false,
		`{"$acl":{"$w":"crm"}}`: false, `{"$acl":7}`: false, `not JSON`: false,
	} {
		n := openStrict(t, t.TempDir(), &Strict{Users: []User{{Name: "admin", Password: "a", Admin: true}, {Name: "crm", Password: "c"}}}, time.Now)
		reading := func() error {
			call, err := streams.NewStreamsClient(dial(t, n)).Read(asUser(t, "crm", "c"), &streams.ReadReq{Options: readOptions(fromAll(), 1)})
			if err == nil {
				_, err = received(call)
			}
			return err
		}
		if err := reading(); status.Code(err) != codes.PermissionDenied {
			t.Errorf("before %s: %v", text, err)
		}
		event := newProposed(metastreamPrefix+allStream, uuid.New(), eventTypeMetadata, true, []byte(text), nil)
		if _, err := n.store.append(testContext(t), metastreamPrefix+allStream, expectNoStream, []proposed{event}); err != nil {
			t.Fatal(err)
		}
		if err := reading(); (err == nil) != granted {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// asUser is the context of a call of a user.
func asUser(t testing.TB, name, password string) context.Context {
	return metadata.NewOutgoingContext(testContext(t), basic(name, password))
}

// Every kind of user meets every kind of call. Subscriptions need the rights of reads,
// deletes those of appends; metadata streams are the administrators' like all that begin
// with $.
func TestRightsOfUsers(t *testing.T) {
	n := openStrict(t, t.TempDir(), &Strict{Users: []User{
		{Name: "admin", Password: "a:b", Admin: true}, {Name: "reader", Password: "b", ReadAll: true, NoWrite: []string{"rapport.", "x-"}}, {Name: "limited", Password: "c"},
	}}, time.Now)
	write(t, n.store, "s", 1)
	write(t, n.store, "rapport.s", 1)
	client := streams.NewStreamsClient(dial(t, n))
	read := func(options *streams.ReadReq_Options, count *streams.ReadReq_Options_Subscription) func(context.Context) error {
		return func(ctx context.Context) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			options := readOptions(options, 1)
			if count != nil {
				options.CountOption = count
			}
			call, err := client.Read(ctx, &streams.ReadReq{Options: options})
			if err == nil {
				_, err = call.Recv()
			}
			return err
		}
	}
	appending := func(stream string) func(context.Context) error {
		return func(ctx context.Context) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			call, err := client.BatchAppend(ctx)
			if err != nil {
				return err
			}
			if err := call.Send(batchOf(stream, nil, 1)); err != nil && !errors.Is(err, io.EOF) { // the error is received
				return err
			}
			answer, err := call.Recv()
			if err == nil && answer.GetSuccess() == nil {
				err = status.Error(codes.Code(answer.GetError().GetCode()), answer.GetError().GetMessage())
			}
			return err
		}
	}
	deleting := func(stream string) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := client.Delete(ctx, &streams.DeleteReq{Options: &streams.DeleteReq_Options{
				StreamIdentifier: identifierOf(stream), ExpectedStreamRevision: &streams.DeleteReq_Options_Any{Any: &shared.Empty{}},
			}})
			return err
		}
	}
	subscribing := &streams.ReadReq_Options_Subscription{Subscription: &streams.ReadReq_Options_SubscriptionOptions{}}
	const admin, reader, limited, nobody = 1, 2, 4, 8
	users := map[int]metadata.MD{admin: basic("admin", "a:b"), reader: basic("reader", "b"), limited: basic("limited", "c"), nobody: nil}
	for what, tc := range map[string]struct {
		do  func(context.Context) error
		may int
	}{
		"read $all":                  {read(fromAll(), nil), admin | reader},
		"subscribe to $all":          {read(fromAll(), subscribing), admin | reader},
		"read a stream":              {read(fromStream("s"), nil), admin | reader | limited},
		"subscribe to a stream":      {read(fromStream("s"), subscribing), admin | reader | limited},
		"read a system stream":       {read(fromStream(logStream), nil), admin},
		"append":                     {appending("s"), admin | reader | limited},
		"append where it is denied":  {appending("rapport.s"), admin | limited},
		"append to a system stream":  {appending("$s"), admin},
		"append metadata":            {appending("$$s"), admin},
		"delete":                     {deleting("s"), admin | reader | limited},
		"delete where it is denied":  {deleting("rapport.s"), admin | limited},
		"delete a system stream":     {deleting("$s"), admin},
		"read a stream after delete": {read(fromStream("rapport.s"), nil), admin | reader | limited},
	} {
		for who, md := range users {
			want := codes.PermissionDenied
			if tc.may&who != 0 {
				want = codes.OK
			}
			if err := tc.do(metadata.NewOutgoingContext(testContext(t), md)); status.Code(err) != want {
				t.Errorf("%s by user %d: %v, want %v", what, who, err, want)
			}
		}
		for _, md := range []metadata.MD{basic("limited", "a:b"), basic("nobody", "c"), metadata.Pairs(headerAuthorization, "Bearer x"), basic("", "")} {
			if err := tc.do(metadata.NewOutgoingContext(testContext(t), md)); status.Code(err) != codes.Unauthenticated {
				t.Errorf("%s by a stranger: %v", what, err)
			}
		}
	}
}
