package commands

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	jsonv1 "github.com/go-json-experiment/json/v1"
	"github.com/google/uuid"

	"github.com/rapport-crm/rapport/domain"
)

// commandSpace is the namespace of command ids. It is permanent: ids of stored events and aggregates follow from it.
var commandSpace = uuid.MustParse("6f7c1c5e-2f0b-4a53-9a52-1d6f0a2c7b11")

// fingerprintLen is the number of hex digits kept of a fingerprint.
const fingerprintLen = 32

// derive makes a UUIDv5 from parts; a separator that no part contains keeps ("a","bc") from ("ab","c").
func derive(space uuid.UUID, parts ...string) string {
	return uuid.NewSHA1(space, []byte(strings.Join(parts, "\x00"))).String()
}

// commandID is the identity of a command: the same tenant, actor and key always mean the same command.
func commandID(tenant domain.Tenant, actor domain.Actor, key string) string {
	return derive(commandSpace, string(tenant), actor.ID, key)
}

// aggregateID is the id that a creating command gives to what it creates.
func aggregateID(commandID, aggregate string) domain.ID {
	return domain.ID(derive(uuid.MustParse(commandID), aggregate))
}

// eventID identifies one event of one run of a command. The run's time and process are part of it, so that only a literal
// repetition of an append looks like a repetition to the log: another run of the same command, at the same moment in
// another process, too, may have decided otherwise, and must meet a conflict, read what the first one wrote and answer
// that. So is the fingerprint: the same key with another body is never taken for a repetition.
func (b *Bus) eventID(c *call, at time.Time, purpose string, index int) string {
	return derive(uuid.MustParse(c.id), c.fingerprint.keyed, b.process, strconv.FormatInt(at.UnixNano(), 36), purpose, strconv.Itoa(index))
}

// telling encodes commands for their fingerprints: a field that is emptied differs from one that is left out.
var telling = json.JoinOptions(json.Deterministic(true), jsonv1.OmitEmptyWithLegacySemantics(true))

// fingerprint stands for what the client asked for: the command's type, its target and its fields, neither facts nor the
// server's clock. It is stored with the command's events and is keyed: whoever reads the log without the secret cannot try
// values, such as e-mail addresses, until one fits. Logs of before keyed fingerprints hold plain, which are still recognised.
type fingerprint struct{ keyed, plain string }

// is reports whether a stored fingerprint is of the same content.
func (f fingerprint) is(stored string) bool { return stored == f.keyed || stored == f.plain }

// fingerprintOf returns *domain.InvalidError for a command of more than MaxCommandBytes.
func (b *Bus) fingerprintOf(cmd domain.Command, target domain.ID) (fingerprint, error) {
	body, err := json.Marshal(cmd, telling)
	if err != nil {
		return fingerprint{}, fmt.Errorf("fingerprint of %s: %w", cmd.CommandType(), err)
	}
	if len(body) > MaxCommandBytes {
		e := domain.Invalid("", "is {bytes} bytes long, the limit is {limit}", len(body), MaxCommandBytes)
		e.Code = "too-large"
		return fingerprint{}, e
	}
	content := slices.Concat([]byte(cmd.CommandType()), []byte{0}, []byte(target), []byte{0}, body)
	plain := sha256.Sum256(content)
	mac := hmac.New(sha256.New, b.secret)
	mac.Write([]byte("fingerprint\x00")) // no reservation is named so
	mac.Write(content)
	return fingerprint{hex.EncodeToString(mac.Sum(nil)[:fingerprintLen/2]), hex.EncodeToString(plain[:fingerprintLen/2])}, nil
}

// reservationID names the reservation of one value by a keyed hash: equal values meet in one stream, and nobody without
// the secret can test the log for a value.
func (b *Bus) reservationID(tenant domain.Tenant, aggregate string, key domain.Key) domain.ID {
	mac := hmac.New(sha256.New, b.secret)
	mac.Write([]byte(strings.Join([]string{string(tenant), aggregate, key.Kind, key.Value}, "|")))
	id := uuid.UUID(mac.Sum(nil)[:16])
	id[6] = id[6]&0x0f | 0x80 // version 8: made by a rule of our own (RFC 9562 §5.8)
	id[8] = id[8]&0x3f | 0x80 // variant of RFC 9562
	return domain.ID(id.String())
}
