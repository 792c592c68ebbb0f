package esnode

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
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
	switch {
	case user != nil && user.Admin:
		return nil
	case user == nil, stream == allStream && !user.ReadAll, stream != allStream && strings.HasPrefix(stream, systemPrefix),
		a == toWrite && slices.ContainsFunc(user.NoWrite, func(prefix string) bool { return strings.HasPrefix(stream, prefix) }):
		return &requestError{code: codes.PermissionDenied, message: textAccessDenied, exception: exceptionAccessDenied}
	}
	return nil
}
