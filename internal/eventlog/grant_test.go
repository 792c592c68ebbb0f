package eventlog

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

func TestGrantKeepsWhatStandsThere(t *testing.T) {
	for name, c := range map[string]struct{ before, want, refused string }{
		"nothing":         {"", `{"$acl":{"$r":["$admins","rapport"]}}`, ""},
		"no readers":      {`{"$acl":{"$w":"ops"},"x":1}`, `{"$acl":{"$r":["$admins","rapport"],"$w":"ops"},"x":1}`, ""},
		"one reader":      {`{"$acl":{"$r":"ops"}}`, `{"$acl":{"$r":["ops","rapport"]}}`, ""},
		"several":         {`{"$acl":{"$r":["$admins","ops"]}}`, `{"$acl":{"$r":["$admins","ops","rapport"]}}`, ""},
		"there already":   {`{"$acl":{"$r":["rapport"]}}`, `{"$acl":{"$r":["rapport"]}}`, ""},
		"acl is no acl":   {`{"$acl":7}`, `{"$acl":7}`, "no object"},
		"readers no list": {`{"$acl":{"$r":7}}`, `{"$acl":{"$r":7}}`, "neither"},
		"reader no name":  {`{"$acl":{"$r":[7]}}`, `{"$acl":{"$r":[7]}}`, "no name"},
		"not JSON":        {`{`, `{`, "not understood"},
	} {
		t.Run(name, func(t *testing.T) {
			at := address(t)
			if external := !strings.Contains(at, "127.0.0.1"); external {
				t.Skip("the metadata of $all of a node of somebody else's is not to be changed")
			}
			log := dial(t, at)
			if c.before != "" {
				other(t, at, allMetadataStream, esdb.EventData{
					EventID: uuid.New(), EventType: metadataType, ContentType: esdb.ContentTypeJson, Data: []byte(c.before),
				})
			}
			var changed bool
			err := steadily(t, func() (err error) {
				changed, err = log.GrantReading(t.Context(), "rapport")
				return err
			})
			if c.refused != "" {
				if err == nil || !strings.Contains(err.Error(), c.refused) {
					t.Errorf("got %v, want %q", err, c.refused)
				}
				return
			}
			if err != nil || changed != (c.before != c.want) {
				t.Errorf("changed %t, %v", changed, err)
			}
			p, err := log.streamPage(t.Context(), allMetadataStream, lastOf, 1)
			if err != nil {
				t.Fatal(err)
			}
			var got, want any
			if json.Unmarshal(p.events[0].Data, &got) != nil || json.Unmarshal([]byte(c.want), &want) != nil || !cmp.Equal(got, want) {
				t.Errorf("got %s, want %s", p.events[0].Data, c.want)
			}
		})
	}
}
