package eventlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"

	"github.com/rapport-crm/rapport/domain"
)

const (
	allMetadataStream = "$$$all" // holds who may do what with $all, in the last of its events
	metadataType      = "$metadata"
	aclMember         = "$acl"
	readersMember     = "$r"
	administrators    = "$admins" // may read $all as long as nobody is named
)

// GrantReading allows a user, or a group, to read $all. Whatever else the metadata of $all says is kept. It reports false
// when the right was there already. It needs the rights of an administrator.
func (l *ESDB) GrantReading(ctx context.Context, who string) (changed bool, err error) {
	const doing = "grant the reading of $all"
	if who == "" {
		return false, domain.Invalid("", "names neither a user nor a group")
	}
	p, err := l.streamPage(ctx, allMetadataStream, lastOf, 1)
	if err != nil && !errors.Is(err, errNotThere) {
		return false, failure(ctx, doing, err)
	}
	metadata, expected := map[string]any{}, domain.NoStream
	if len(p.events) > 0 {
		expected = domain.AtRevision(p.events[0].Revision)
		if err := json.Unmarshal(p.events[0].Data, &metadata); err != nil {
			return false, fmt.Errorf("%s: the metadata of $all is not understood: %w", doing, err)
		}
	}
	acl, readers, err := readersOf(metadata)
	if err != nil {
		return false, fmt.Errorf("%s: %w", doing, err)
	}
	if slices.Contains(readers, who) {
		return false, nil
	}
	acl[readersMember] = append(readers, who)
	metadata[aclMember] = acl
	data, err := json.Marshal(metadata)
	if err != nil {
		return false, err
	}
	event := esdb.EventData{EventID: uuid.New(), EventType: metadataType, ContentType: esdb.ContentTypeJson, Data: data}
	switch o := l.append(ctx, allMetadataStream, expected, []esdb.EventData{event}).(type) {
	case domain.Committed:
		return true, nil
	case domain.Conflict:
		return false, fmt.Errorf("%s: somebody has changed the metadata of $all meanwhile: run it again", doing)
	case domain.Refused:
		return false, o.Err
	case domain.Unknown:
		return false, o.Err
	}
	return false, fmt.Errorf("%s: no outcome", doing)
}

// readersOf returns the access list that metadata holds, and who may read by it: one name or a list of names.
func readersOf(metadata map[string]any) (acl map[string]any, readers []string, err error) {
	acl = map[string]any{}
	if list, there := metadata[aclMember]; there {
		var ok bool
		if acl, ok = list.(map[string]any); !ok {
			return nil, nil, errors.New("the $acl of $all is no object")
		}
	}
	switch r := acl[readersMember].(type) {
	case nil:
		return acl, []string{administrators}, nil
	case string:
		return acl, []string{r}, nil
	case []any:
		for _, name := range r {
			text, ok := name.(string)
			if !ok {
				return nil, nil, errors.New("the $r of $all's $acl holds what is no name")
			}
			readers = append(readers, text)
		}
		return acl, readers, nil
	}
	return nil, nil, errors.New("the $r of $all's $acl is neither a name nor a list of names")
}
