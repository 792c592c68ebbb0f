package eventlog

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/codec"
)

// The identity of a log is the first event of a system stream. The embedded node writes it when it creates a log; on a
// real node the adapter does, which needs the right to write system streams.
const (
	identityStream = "$rapport-log"
	identityType   = "$log-identity"
)

type identity struct {
	ID string `json:"id"`
}

// ID implements Log. It asks the log anew, because another log may stand behind the same address after a restore.
func (l *ESDB) ID(ctx context.Context) (string, error) {
	const doing = "read the identity of the log"
	for {
		p, err := call(ctx, l, l.timing.read, func(ctx context.Context, c *esdb.Client) (page, error) {
			return l.streamPage(ctx, c, identityStream, esdb.ReadStreamOptions{Direction: esdb.Forwards, From: esdb.Start{}}, 1)
		})
		if err != nil {
			return "", failure(ctx, doing, err)
		}
		if len(p.events) > 0 {
			return parseIdentity(p.events[0])
		}
		if err := l.createIdentity(ctx); err != nil {
			return "", err
		}
	}
}

func parseIdentity(raw codec.Raw) (string, error) {
	var i identity
	if err := json.Unmarshal(raw.Data, &i); err != nil || raw.Type != identityType {
		return "", fmt.Errorf("stream %s holds no identity: %w", identityStream, domain.ErrCorrupt)
	}
	if _, err := uuid.Parse(i.ID); err != nil {
		return "", fmt.Errorf("stream %s: identity %q is not a UUID: %w", identityStream, i.ID, domain.ErrCorrupt)
	}
	return i.ID, nil
}

// createIdentity gives a log its identity; whoever comes second finds that of the first.
func (l *ESDB) createIdentity(ctx context.Context) error {
	data, err := json.Marshal(identity{ID: uuid.NewString()})
	if err != nil {
		return err
	}
	event := esdb.EventData{EventID: uuid.New(), EventType: identityType, ContentType: esdb.ContentTypeJson, Data: data}
	switch o := l.append(ctx, identityStream, domain.NoStream, []esdb.EventData{event}).(type) {
	case domain.Unknown:
		return o.Err
	case domain.Refused:
		return o.Err
	}
	return nil
}
