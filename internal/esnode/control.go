package esnode

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// A node takes orders beside the protocol from those who may read the directory of its
// log: a file there, for its owner only, says where it listens and holds a token that
// an order must bear.
const (
	controlFile    = "control.json"
	controlService = "rapport.node.Control"
	backupMethod   = "Backup"
	tokenHeader    = "rapport-token"
)

// controller carries out orders.
type controller struct {
	store *store
	token string
	file  string // empty: not announced
}

// announcement is the content of controlFile.
type announcement struct {
	Address string `json:"address"`
	Token   string `json:"token"`
}

func newController(s *store) *controller { return &controller{store: s, token: rand.Text()} }

func (c *controller) register(server *grpc.Server) {
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: controlService,
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{
			MethodName: backupMethod,
			Handler: func(_ any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
				target := &wrapperspb.StringValue{}
				if err := decode(target); err != nil {
					return nil, err
				}
				return intercept(ctx, target, &grpc.UnaryServerInfo{Server: c}, c.backup)
			},
		}},
	}, c)
}

// backup carries out the one order there is: copy the log to the named directory.
func (c *controller) backup(ctx context.Context, target any) (any, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	if given := md.Get(tokenHeader); len(given) != 1 || subtle.ConstantTimeCompare([]byte(given[0]), []byte(c.token)) != 1 {
		return nil, &requestError{code: codes.PermissionDenied, message: "a backup is made for the owner of the log's directory only"}
	}
	dir := target.(*wrapperspb.StringValue).GetValue()
	if !filepath.IsAbs(dir) {
		return nil, invalid("the backup directory %q is no absolute path", dir)
	}
	head, err := c.store.backup(dir)
	if err != nil {
		return nil, err
	}
	return wrapperspb.UInt64(head), nil
}

// announce writes the file; whoever sees it sees it whole.
func (c *controller) announce(dir, address string) (err error) {
	file, err := os.CreateTemp(dir, controlFile+"-") // for the owner only
	if err != nil {
		return err
	}
	err = errors.Join(json.NewEncoder(file).Encode(announcement{Address: address, Token: c.token}), file.Close())
	if err == nil {
		c.file = filepath.Join(dir, controlFile)
		err = os.Rename(file.Name(), c.file)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(file.Name()))
	}
	return err
}

// retract takes the announcement back.
func (c *controller) retract() error {
	if c.file == "" {
		return nil
	}
	return os.Remove(c.file)
}

// askForBackup has the node that serves the log in dir copy it.
func askForBackup(ctx context.Context, dir, target string) (head uint64, err error) {
	text, err := os.ReadFile(filepath.Join(dir, controlFile))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("%w: %s, and it is none that is ready and makes backups", ErrLocked, dir)
	}
	if err != nil {
		return 0, fmt.Errorf("ask the node for a backup: %w", err)
	}
	var node announcement
	if err := json.Unmarshal(text, &node); err != nil {
		return 0, fmt.Errorf("ask the node for a backup: %s: %w", controlFile, err)
	}
	conn, err := grpc.NewClient(node.Address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return 0, fmt.Errorf("ask the node for a backup: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	position := &wrapperspb.UInt64Value{}
	ctx = metadata.AppendToOutgoingContext(ctx, tokenHeader, node.Token)
	if err := conn.Invoke(ctx, "/"+controlService+"/"+backupMethod, wrapperspb.String(target), position); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err() // which nobody finds in a status
		}
		return 0, fmt.Errorf("ask the node for a backup: %w", err)
	}
	return position.GetValue(), nil
}
