package esnode

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
)

const (
	headerAuthorization = "authorization"
	basicPrefix         = "Basic "
	systemPrefix        = "$"
	textUnauthenticated = "Unauthenticated"
	textAccessDenied    = "Access Denied"
)

// access is what a call wants of a stream.
type access int

const (
	toRead access = iota
	toWrite
)

// caller returns the user whose name and password a call carries. Nobody calls without;
// known is false when there is no such user or the password is another one.
func (m *manners) caller(ctx context.Context) (user *User, known bool) {
	md, _ := metadata.FromIncomingContext(ctx)
	header := md.Get(headerAuthorization)
	if len(header) == 0 {
		return nil, true
	}
	given, ok := strings.CutPrefix(header[0], basicPrefix)
	text, err := base64.StdEncoding.DecodeString(given)
	name, password, _ := strings.Cut(string(text), ":")
	i := slices.IndexFunc(m.Users, func(u User) bool { return u.Name == name })
	if !ok || err != nil || i < 0 || subtle.ConstantTimeCompare([]byte(password), []byte(m.Users[i].Password)) != 1 {
		return nil, false
	}
	return &m.Users[i], true
}

// authenticate refuses a call with a wrong name or password.
func (m *manners) authenticate(ctx context.Context) error {
	if m.Users == nil {
		return nil
	}
	if _, known := m.caller(ctx); !known {
		return &requestError{code: codes.Unauthenticated, message: textUnauthenticated}
	}
	return nil
}

// permit refuses what a caller has no right to.
func (m *manners) permit(ctx context.Context, a access, stream string) error {
	if m.Users == nil {
		return nil
	}
	user, _ := m.caller(ctx)
	if user != nil && user.Admin {
		return nil
	}
	denied := stream == allStream && user != nil && !user.ReadAll
	if denied {
		granted, err := m.granted(user.Name)
		if err != nil {
			return err
		}
		denied = !granted
	}
	switch {
	case user == nil, denied, stream != allStream && strings.HasPrefix(stream, systemPrefix),
		a == toWrite && slices.ContainsFunc(user.NoWrite, func(prefix string) bool { return strings.HasPrefix(stream, prefix) }):
		return &requestError{code: codes.PermissionDenied, message: textAccessDenied, exception: exceptionAccessDenied}
	}
	return nil
}

// granted says whether the metadata of $all allows a user to read it, beside the rights
// that the user was given with the node.
func (m *manners) granted(name string) (granted bool, err error) {
	st, err := m.store.state(metastreamPrefix + allStream)
	if err != nil {
		return false, err
	}
	err = m.store.scanStream(st, st.last, st.last, forwards, func(rec record) (bool, error) {
		data, err := eventData(rec.body)
		if err != nil {
			return false, err
		}
		var metadata struct {
			ACL struct {
				Readers json.RawMessage `json:"$r"`
			} `json:"$acl"`
		}
		var one string
		var several []string
		if json.Unmarshal(data, &metadata) == nil && (json.Unmarshal(metadata.ACL.Readers, &one) == nil || json.Unmarshal(metadata.ACL.Readers, &several) == nil) {
			granted = slices.Contains(append(several, one), name)
		}
		return false, nil
	})
	return granted, err
}
