package bus

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	watermillnats "github.com/ThreeDotsLabs/watermill-nats/v2/pkg/nats"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
)

// Kinds of brokers: the schemes of their addresses.
const (
	NATS  = "nats"
	Kafka = "kafka"
)

// brokerTimeout bounds each conversation with a broker: connecting, and publishing one message.
const brokerTimeout = 5 * time.Second

// Broker is a Publisher to NATS JetStream or Kafka. It connects when the first message is published, and anew after each
// failure. Messages are published one at a time.
type Broker struct {
	kind  string
	topic string
	open  func() (message.Publisher, error)

	mu     sync.Mutex
	closed bool
	to     message.Publisher // nil while there is no connection
}

// errBrokerClosed says that this process has closed the broker.
var errBrokerClosed = errors.New("the broker is closed")

// brokerParameters are those that an address of a broker may have, see NewBroker.
var brokerParameters = []string{"subject", "tls"}

// NewBroker reads an address, of one of the forms
//
//	nats://[user:password@]host:4222?subject=rapport.events
//	kafka://[user:password@]host:9092[,host:9092…]/topic
//
// with tls=true for an encrypted connection that is checked against the system's authorities. On NATS each topic is a
// subject below the one given, and a JetStream stream has to take them: create it, its limits are the operator's to choose.
// Messages carry their id as Nats-Msg-Id, by which the server drops repetitions within the stream's duplicate window. On
// Kafka everything goes to the one topic; the partition follows from the message's key.
func NewBroker(address string, logger *slog.Logger) (*Broker, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("the address of the broker is not a URL") // it may hold a password, so it is not repeated
	}
	shown := (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String() // users and parameters may be secrets
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, fmt.Errorf("broker %s: its parameters are not of the form a=b&c=d", shown)
	}
	for name, values := range query {
		switch {
		case !slices.Contains(brokerParameters, name):
			return nil, fmt.Errorf("broker %s: %s is none of the parameters %v", shown, name, brokerParameters)
		case len(values) > 1:
			return nil, fmt.Errorf("broker %s: %s stands there twice", shown, name)
		case name == "tls" && values[0] != "true" && values[0] != "false":
			return nil, fmt.Errorf("broker %s: tls is true or false", shown)
		}
	}
	secure := query.Get("tls") == "true"
	voice := brokerLogger(logger)
	b := &Broker{kind: u.Scheme}
	switch u.Scheme {
	case NATS:
		b.topic = query.Get("subject")
		if !validSubject(b.topic) || u.Host == "" {
			return nil, fmt.Errorf("broker %s: want nats://host:4222?subject=rapport.events", shown)
		}
		b.open = func() (message.Publisher, error) { return openNATS(u, secure, voice) }
	case Kafka:
		b.topic = strings.Trim(u.Path, "/")
		if b.topic == "" || strings.Contains(b.topic, "/") || u.Host == "" || query.Has("subject") {
			return nil, fmt.Errorf("broker %s: want kafka://host:9092,host:9092/topic", shown)
		}
		b.open = func() (message.Publisher, error) { return openKafka(u, secure, voice) }
	default:
		return nil, fmt.Errorf("broker %s: want nats://… or kafka://…", shown)
	}
	return b, nil
}

// Kind returns NATS or Kafka.
func (b *Broker) Kind() string { return b.kind }

// validSubject reports whether s is a subject of NATS without wildcards.
func validSubject(s string) bool {
	return !strings.ContainsAny(s, " \t\r\n*>") && !slices.Contains(strings.Split(s, "."), "")
}

// brokerLogger is like logger: what matters of a broker's failures is the error that Publish returns.
func brokerLogger(log *slog.Logger) watermill.LoggerAdapter {
	if log == nil {
		log = slog.Default()
	}
	return logger(log)
}

// Connect proves that the broker can be reached. Publish connects by itself.
func (b *Broker) Connect() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.connect()
}

// connect connects when there is no connection; b.mu is held.
func (b *Broker) connect() error {
	if b.closed {
		return errBrokerClosed
	}
	if b.to != nil {
		return nil
	}
	to, err := b.open()
	if err != nil {
		return fmt.Errorf("connect to %s: %w", b.kind, err)
	}
	b.to = to
	return nil
}

// Publish implements Publisher. Out.Topic is the part of the subject behind the one that the address gives; Kafka does not
// use it.
func (b *Broker) Publish(out *Outgoing) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.connect(); err != nil {
		return err
	}
	msg := message.NewMessage(out.ID, out.Body)
	for name, value := range out.Headers {
		msg.Metadata.Set(name, value)
	}
	topic := b.topic
	if b.kind == NATS && out.Topic != "" {
		topic += "." + out.Topic
	}
	if b.kind == Kafka {
		msg.Metadata.Set(partitionKey, out.Key)
	}
	err := b.to.Publish(topic, msg)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, nats.ErrNoStreamResponse), errors.Is(err, nats.ErrNoResponders):
		err = fmt.Errorf("no JetStream stream takes subject %s: %w", topic, err)
	}
	_ = b.drop() // the failure that matters is the first
	return fmt.Errorf("publish to %s: %w", b.kind, err)
}

// drop closes the connection; b.mu is held.
func (b *Broker) drop() error {
	if b.to == nil {
		return nil
	}
	to := b.to
	b.to = nil
	return to.Close()
}

// Close implements Publisher. It waits for a message that is being published.
func (b *Broker) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	return b.drop()
}

func openNATS(u *url.URL, secure bool, voice watermill.LoggerAdapter) (message.Publisher, error) {
	options := []nats.Option{
		nats.Name("rapport"), nats.Timeout(brokerTimeout),
		nats.NoReconnect(), // a connection that is lost is opened anew, with what had not been acknowledged
	}
	if secure {
		options = append(options, nats.Secure())
	}
	server := url.URL{Scheme: "nats", User: u.User, Host: u.Host}
	return watermillnats.NewPublisher(watermillnats.PublisherConfig{
		URL: server.String(), NatsOptions: options, Marshaler: &watermillnats.NATSMarshaler{},
		JetStream: watermillnats.JetStreamConfig{TrackMsgId: true, ConnectOptions: []nats.JSOpt{nats.MaxWait(brokerTimeout)}},
	}, voice)
}

// partitionKey is the member of a message's metadata that chooses its partition.
const partitionKey = "partitionkey"

func openKafka(u *url.URL, secure bool, voice watermill.LoggerAdapter) (message.Publisher, error) {
	config := sarama.NewConfig()
	config.ClientID = "rapport"
	config.Version = sarama.V2_1_0_0
	// A message is taken when all replicas in sync have it, and one that the client sends again is stored once and in its
	// place.
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Idempotent = true
	config.Net.MaxOpenRequests = 1
	config.Producer.Return.Successes = true
	config.Producer.Timeout = brokerTimeout
	config.Producer.Retry.Max = 1
	config.Metadata.Retry.Max = 1
	config.Metadata.Timeout = brokerTimeout
	config.Net.DialTimeout, config.Net.ReadTimeout, config.Net.WriteTimeout = brokerTimeout, brokerTimeout, brokerTimeout
	config.Net.TLS.Enable = secure
	if password, ok := u.User.Password(); ok {
		config.Net.SASL.Enable, config.Net.SASL.User, config.Net.SASL.Password = true, u.User.Username(), password
	}
	return kafka.NewPublisher(kafka.PublisherConfig{
		Brokers: strings.Split(u.Host, ","), OverwriteSaramaConfig: config,
		Marshaler: kafka.NewWithPartitioningMarshaler(func(_ string, msg *message.Message) (string, error) {
			return msg.Metadata.Get(partitionKey), nil
		}),
	}, voice)
}
