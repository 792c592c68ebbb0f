package bus_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/rapport-crm/rapport/internal/bus"
)

func open(t testing.TB, address string) *bus.Broker {
	t.Helper()
	b, err := bus.NewBroker(address, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func TestAddressesOfBrokers(t *testing.T) {
	for address, want := range map[string]string{
		"nats://127.0.0.1:4222?subject=rapport.events": "",
		"nats://ann:secret@nats?subject=a&tls=true":    "",
		"kafka://one:9092,two:9092/events":             "",
		"nats://127.0.0.1:4222":                        "want nats://",
		"nats://127.0.0.1:4222?subject=a.*":            "want nats://",
		"nats://127.0.0.1:4222?subject=a..b":           "want nats://",
		"nats://127.0.0.1:4222?subject=a&retries=3":    "retries is none of the parameters",
		"nats://ann:secret@nats?subject=a&tls=1":       "tls is true or false",
		"kafka://one:9092/events?tls=":                 "tls is true or false",
		"kafka://one:9092/events?tls=false":            "",
		"kafka://one:9092/events?tls=true;name=a":      "are not of the form",
		"nats://nats?subject=a&tls=true&tls=false":     "tls stands there twice",
		"nats://nats?subject=a&subject=b":              "subject stands there twice",
		"kafka://one:9092":                             "want kafka://",
		"kafka://one:9092/a/b":                         "want kafka://",
		"kafka:///topic":                               "want kafka://",
		"amqp://ann:secret@host/queue":                 "want nats://… or kafka://…",
		"http://ann:secret@ho st":                      "is not a URL",
	} {
		_, err := bus.NewBroker(address, nil)
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", address, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: got %v, want %s", address, err, want)
		case err != nil && strings.Contains(err.Error(), "secret"):
			t.Errorf("%s: the error tells the password: %v", address, err)
		}
	}
}

func message(n int) *bus.Outgoing {
	return &bus.Outgoing{ID: fmt.Sprint("id-", n), Topic: "main.note.written", Key: fmt.Sprint("stream-", n%3),
		Headers: map[string]string{"content-type": "text/plain"}, Body: fmt.Append(nil, n)}
}

// patience bounds every wait for a broker.
const patience = 30 * time.Second

// P15 of docs/faults.md.
func TestJetStreamTakesAMessageOnceAndOnlyIntoAStream(t *testing.T) {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(patience) {
		t.Fatal("the broker does not start")
	}
	b := open(t, "nats://"+s.Addr().String()+"?subject=events")
	if err := b.Publish(message(1)); err == nil || !strings.Contains(err.Error(), "no JetStream stream takes subject events.main.note.written") {
		t.Errorf("nobody keeps it, and Publish says %v", err)
	}
	conn, err := nats.Connect(s.ClientURL(), nats.Timeout(patience))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn, jetstream.WithDefaultTimeout(patience))
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"events.>"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 2, 1} {
		if err := b.Publish(message(n)); err != nil {
			t.Fatal(err)
		}
	}
	info, err := stream.Info(t.Context())
	if err != nil || info.State.Msgs != 2 {
		t.Fatalf("%d messages, %v", info.State.Msgs, err)
	}
	msg, err := stream.GetMsg(t.Context(), 2)
	if err != nil || msg.Subject != "events.main.note.written" || string(msg.Data) != "2" || msg.Header.Get(nats.MsgIdHdr) != "id-2" ||
		msg.Header.Get("content-type") != "text/plain" {
		t.Errorf("got %+v, %v", msg, err)
	}
}

func TestKafkaKeepsTheOrderOfAKey(t *testing.T) {
	const topic, partitions, messages = "events", 4, 30
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(partitions, topic))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	b := open(t, "kafka://"+strings.Join(cluster.ListenAddrs(), ",")+"/"+topic)
	want := map[string][]string{}
	for n := range messages {
		m := message(n)
		if err := b.Publish(m); err != nil {
			t.Fatal(err)
		}
		want[m.Key] = append(want[m.Key], m.ID)
	}
	config := sarama.NewConfig()
	config.Version = sarama.V2_1_0_0
	consumer, err := sarama.NewConsumer(cluster.ListenAddrs(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { consumer.Close() })
	got, partition := map[string][]string{}, map[string]int32{}
	client, err := sarama.NewClient(cluster.ListenAddrs(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	for p := range int32(partitions) {
		end, err := client.GetOffset(topic, p, sarama.OffsetNewest)
		if err != nil {
			t.Fatal(err)
		}
		if end == 0 {
			continue
		}
		of, err := consumer.ConsumePartition(topic, p, sarama.OffsetOldest)
		if err != nil {
			t.Fatal(err)
		}
		for {
			m := <-of.Messages()
			id := header(m, "_watermill_message_uuid")
			if header(m, "content-type") != "text/plain" || fmt.Sprint("id-", string(m.Value)) != id {
				t.Errorf("got %q with %v", m.Value, m.Headers)
			}
			got[string(m.Key)] = append(got[string(m.Key)], id)
			if other, seen := partition[string(m.Key)]; seen && other != p {
				t.Errorf("key %s is in partitions %d and %d", m.Key, other, p)
			}
			partition[string(m.Key)] = p
			if m.Offset+1 == end {
				break
			}
		}
		of.Close()
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func header(m *sarama.ConsumerMessage, name string) string {
	for _, h := range m.Headers {
		if string(h.Key) == name {
			return string(h.Value)
		}
	}
	return ""
}

func TestBrokerThatIsNotThereIsAnError(t *testing.T) {
	for _, address := range []string{"nats://127.0.0.1:1?subject=a", "kafka://127.0.0.1:1/a"} {
		b := open(t, address)
		for range 2 {
			if err := b.Publish(message(1)); err == nil {
				t.Errorf("%s took a message", address)
			}
		}
	}
}
