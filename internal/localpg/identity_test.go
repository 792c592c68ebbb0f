package localpg

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
)

// site is a path at which data directories come and go, while what PostgreSQL keeps of them lies elsewhere.
type site struct {
	*testing.T
	dir, home string
}

func newSite(t *testing.T) site {
	root := t.TempDir()
	return site{t, filepath.Join(root, "data"), filepath.Join(root, "elsewhere")}
}

// check fails the test for an error.
func (s site) check(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// start does what Start does with a cluster that lies elsewhere, and returns whose it has got: a cluster that is not there is
// made in the name of maker.
func (s site) start(maker string) string {
	s.Helper()
	for _, dir := range []string{s.dir, s.home} {
		s.check(os.MkdirAll(dir, 0o711))
	}
	s.check(settle(s.Context(), s.dir, s.home, slog.New(slog.NewTextHandler(s.Output(), nil))))
	s.check(os.WriteFile(filepath.Join(s.dir, logName), nil, 0o600))
	cluster := filepath.Join(s.home, clusterName)
	if text, err := os.ReadFile(filepath.Join(cluster, passwordName)); err == nil {
		return string(text)
	}
	s.check(os.Mkdir(cluster, 0o711))
	s.check(os.WriteFile(filepath.Join(cluster, passwordName), []byte(maker), 0o600))
	return maker
}

// startWithoutID does what a release without ids did.
func (s site) startWithoutID(maker string) {
	s.Helper()
	s.start(maker)
	for _, dir := range []string{s.dir, s.home} {
		s.check(os.Remove(filepath.Join(dir, idName)))
	}
}

func (s site) want(got, want string) {
	s.Helper()
	if got != want {
		s.Errorf("the cluster is %s, want %s", got, want)
	}
}

func (s site) wantAsides(want int) {
	s.Helper()
	kept, err := asides(s.home)
	s.check(err)
	if len(kept) != want {
		s.Errorf("%d clusters are aside, want %d: %v", len(kept), want, kept)
	}
}

func TestNewDirectoryGetsNoClusterOfADeletedOne(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]func(site){
		"with an id":    func(s site) { s.check(Claim(s.dir)); s.want(s.start("first"), "first") },
		"without an id": func(s site) { s.startWithoutID("first") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			first(s)
			s.check(os.RemoveAll(s.dir))
			s.check(Claim(s.dir))
			s.want(s.start("second"), "second")
			s.wantAsides(1)
			s.check(Claim(s.dir)) // changes nothing
			s.want(s.start("third"), "second")
			s.wantAsides(1)
		})
	}
}

// What an upgrade, a backup and a restart may look like.
func TestDirectoryKeepsItsCluster(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(site){
		"started again":              func(s site) {},
		"claimed after it was used":  func(s site) { s.check(Claim(s.dir)) },
		"restored without its id":    func(s site) { s.check(os.RemoveAll(s.dir)) },
		"upgraded":                   func(s site) { s.startWithoutID("never") },
		"upgraded and claimed":       func(s site) { s.startWithoutID("never"); s.check(Claim(s.dir)) },
		"id lost elsewhere, in half": func(s site) { s.check(os.Remove(filepath.Join(s.dir, idName))) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.check(Claim(s.dir))
			s.want(s.start("first"), "first")
			change(s)
			s.want(s.start("second"), "first")
			s.want(s.start("third"), "first")
			s.wantAsides(0)
		})
	}
}

// A disk that is not there for a while, or a directory that is moved away and back.
func TestClusterThatWasSetAsideComesBackWithItsDirectory(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.check(Claim(s.dir))
	s.want(s.start("first"), "first")
	away := s.dir + "-away"
	s.check(os.Rename(s.dir, away))
	s.check(Claim(s.dir))
	s.want(s.start("second"), "second")
	for range 2 {
		other := s.dir + "-other"
		s.check(os.Rename(s.dir, other))
		s.check(os.Rename(away, s.dir))
		s.want(s.start("none"), "first")
		s.wantAsides(1)
		s.check(os.Rename(s.dir, away))
		s.check(os.Rename(other, s.dir))
		s.want(s.start("none"), "second")
		s.wantAsides(1)
	}
}

func TestOnlySomeClustersAreKeptAside(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for i := range maxAside + 3 {
		s.check(os.RemoveAll(s.dir))
		s.check(Claim(s.dir))
		s.want(s.start(fmt.Sprint(i)), fmt.Sprint(i))
		s.wantAsides(min(i, maxAside))
	}
	kept, err := asides(s.home)
	s.check(err)
	for i, path := range kept {
		text, err := os.ReadFile(filepath.Join(path, clusterName, passwordName))
		s.check(err)
		if want := fmt.Sprint(i + 2); string(text) != want {
			t.Errorf("aside is %s, want %s: the oldest go first", text, want)
		}
	}
}

// A start that was cut short behind each of the steps of settle.
func TestSettleGoesOnWhereItWasCutShort(t *testing.T) {
	t.Parallel()
	for name, cut := range map[string]func(site){
		"set aside":  func(s site) { s.check(os.Rename(s.home, s.home+aside+"20260301T120000.000000000Z-X")) },
		"place made": func(s site) { s.check(os.RemoveAll(s.home)); s.check(os.Mkdir(s.home, 0o711)) },
		"cluster begun": func(s site) {
			s.check(os.Rename(filepath.Join(s.home, clusterName), filepath.Join(s.home, clusterName+unfinished)))
		},
		"nothing was done": func(s site) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.check(Claim(s.dir))
			s.want(s.start("first"), "first")
			s.check(os.RemoveAll(s.dir))
			s.check(Claim(s.dir))
			cut(s)
			s.want(s.start("second"), "second")
			s.want(s.start("third"), "second")
		})
	}
}
