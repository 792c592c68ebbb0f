package localpg

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// elsewhere holds clusters whose directory the server's user cannot reach.
const elsewhere = "/var/lib/rapport"

// account is the unprivileged user that the server of a root owner runs as. A
// nil account is this process's own user.
type account struct {
	name     string
	uid, gid uint32
}

// serverAccount returns the account to drop to, nil when this process is not root.
func serverAccount() (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		var unknown user.UnknownUserError
		if errors.As(err, &unknown) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look up user %s: %w", name, err)
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("id of user %s: %w", name, err)
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("group of user %s: %w", name, err)
		}
		return &account{name: name, uid: uint32(uid), gid: uint32(gid)}, nil
	}
	return nil, errors.New("PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody to run it as: run as another user, or name a running server with --postgres")
}

// attributes make a child process run as a, in a session of its own so that
// Ctrl-C in our terminal does not stop it before we have drained.
func (a *account) attributes() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setsid: true}
	if a != nil {
		attr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
	}
	return attr
}

// own gives path to a.
func (a *account) own(path string) error {
	if a == nil {
		return nil
	}
	return os.Chown(path, int(a.uid), int(a.gid))
}

// placement returns the directory to keep dir's cluster in: dir itself, or one
// below base, named for dir's path, when a cannot reach dir. It makes the
// directory it returns.
func placement(dir, base string, a *account) (string, error) {
	if a == nil {
		return dir, nil
	}
	// dir is ours, so others may be let through it; what lies above is not.
	if err := os.Chmod(dir, 0o711); err != nil {
		return "", err
	}
	reachable, err := a.reaches(dir)
	if err != nil || reachable {
		return dir, err
	}
	resolved, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(resolved))
	home := filepath.Join(base, "postgres-"+hex.EncodeToString(sum[:8]))
	if err := os.MkdirAll(home, 0o711); err != nil {
		return "", fmt.Errorf("user %s cannot reach %s, nor is there another place: %w", a.name, dir, err)
	}
	reachable, err = a.reaches(home)
	if err == nil && !reachable {
		err = fmt.Errorf("user %s, which PostgreSQL runs as, can reach neither %s nor %s: give search permission (chmod o+x) on the directories above, or name a running server with --postgres", a.name, dir, home)
	}
	return home, err
}

// reaches reports whether a may search dir and every directory above it.
func (a *account) reaches(dir string) (bool, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return false, err
	}
	for {
		info, err := os.Stat(dir)
		if err != nil {
			return false, err
		}
		if !a.searches(info) {
			return false, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return true, nil
		}
		dir = parent
	}
}

// searches reports whether the permission bits let a search the directory.
func (a *account) searches(info os.FileInfo) bool {
	const ownerSearch, groupSearch, otherSearch = 0o100, 0o010, 0o001
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch mode := info.Mode().Perm(); {
	case ok && stat.Uid == a.uid:
		return mode&ownerSearch != 0
	case ok && stat.Gid == a.gid:
		return mode&groupSearch != 0
	default:
		return mode&otherSearch != 0
	}
}
