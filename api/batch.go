package api

import (
	"context"
	"net/http"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/labstack/echo/v4"
	"golang.org/x/sync/errgroup"

	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/domain"
)

// batchWriters is how many commands of one batch are in execution at the same time.
const batchWriters = 16

// batchPath is the route of batches.
const batchPath = "/v1/commands"

// BatchRequest is a list of commands, each of which is accepted or refused on its own.
type BatchRequest struct {
	StopOnError bool        `json:"stopOnError,omitempty" doc:"Execute one after the other and do not try those after the first that fails. Otherwise only commands to the same record are executed in order."`
	Items       []BatchItem `json:"items" minItems:"1" maxItems:"1000" doc:"The commands."`
}

// BatchItem is one command of a batch.
type BatchItem struct {
	Command        string         `json:"command" doc:"Permanent name of the command." example:"customer.tag"`
	ID             domain.ID      `json:"id,omitempty" format:"uuid" doc:"The record that it addresses; absent for a command that creates one."`
	IdempotencyKey string         `json:"idempotencyKey,omitempty" maxLength:"255" doc:"As the header Idempotency-Key of a single command; required unless dryRun is true."`
	IfMatch        *uint64        `json:"ifMatch,omitempty" doc:"The revision that the command was decided on; any when left out."`
	Data           jsontext.Value `json:"data" doc:"The command's own members, as in the body of its route."`
}

// batchBody is a BatchRequest whose items are not read yet: what is wrong with one concerns no other.
type batchBody struct {
	StopOnError bool             `json:"stopOnError"`
	Items       []jsontext.Value `json:"items"`
}

// batchItem is an item as it was read, or why it cannot be.
type batchItem struct {
	BatchItem
	fault error
}

// read reads the items.
func (b batchBody) read() []batchItem {
	items := make([]batchItem, len(b.Items))
	for i, item := range b.Items {
		items[i].fault = decodeObject(item, &items[i].BatchItem, itemPointer(i))
	}
	return items
}

func itemPointer(index int) string { return "/items/" + strconv.Itoa(index) }

// BatchResult answers the items of a batch in their order.
type BatchResult struct {
	Items     []BatchItemResult `json:"items" doc:"One answer for each item, in the same order."`
	Accepted  int               `json:"accepted" doc:"Items that were accepted, those that changed nothing included."`
	Unchanged int               `json:"unchanged" doc:"Accepted items that changed nothing."`
	Failed    int               `json:"failed" doc:"Items that were refused, failed or were not tried."`
	Position  domain.Position   `json:"position,omitzero" doc:"The furthest position of the receipts: give it to a query as minPosition to read everything that the batch wrote."`
}

// BatchItemResult is the answer to one item: a receipt or a problem.
type BatchItemResult struct {
	Status   int      `json:"status" doc:"The status that the command's own route would have answered."`
	Replayed bool     `json:"replayed,omitempty" doc:"The command had been executed before; this is its receipt."`
	Receipt  *Receipt `json:"receipt,omitempty" doc:"When the command was accepted."`
	Problem  *Problem `json:"problem,omitempty" doc:"When it was not; pointers lead into the body of the batch."`
}

func (s *Server) batchRoute() error {
	s.limits[batchPath] = s.opts.MaxBatchBytes
	op, err := s.batchOperation()
	if err != nil {
		return err
	}
	s.handle(op, s.batch)
	return nil
}

// batch executes commands one by one. It is no transaction: each is accepted or refused on its own, whatever is wrong with
// it. Only what surrounds the items is refused as a whole: text that is not JSON, no items or too many, headers.
func (s *Server) batch(c echo.Context) error {
	r := c.Request()
	envelope, err := batchEnvelope(r)
	if err != nil {
		return err
	}
	body, err := readBody(r)
	if err != nil {
		return err
	}
	var batch batchBody
	if err := decodeObject(body, &batch, ""); err != nil {
		return err
	}
	switch n := len(batch.Items); {
	case n == 0:
		return domain.Invalid("/items", "is required and must not be empty")
	case n > MaxBatchItems:
		return domain.Invalid("/items", "has more than {limit} elements", MaxBatchItems)
	}
	if err := s.commandSlots.take(tooManyCommands); err != nil {
		return err
	}
	defer s.commandSlots.leave()
	result := BatchResult{Items: make([]BatchItemResult, len(batch.Items))}
	if batch.StopOnError {
		s.runInOrder(r.Context(), envelope, batch.read(), result.Items)
	} else {
		s.runChains(r.Context(), envelope, batch.read(), result.Items)
	}
	for _, item := range result.Items {
		if item.Receipt == nil {
			result.Failed++
			continue
		}
		result.Accepted++
		if item.Receipt.Unchanged {
			result.Unchanged++
		}
		if result.Position.Before(item.Receipt.Position) {
			result.Position = item.Receipt.Position
		}
	}
	return writeJSON(c, http.StatusOK, &result)
}

// batchEnvelope reads what all items of a batch share: the headers of single commands without key and revision.
func batchEnvelope(r *http.Request) (commands.Request, error) {
	envelope, err := sharedEnvelope(r)
	if err != nil {
		return envelope, err
	}
	for _, name := range []string{headerKey, headerIfMatch} {
		if r.Header.Get(name) != "" {
			return envelope, domain.Invalid(name, "is a member of each item of a batch")
		}
	}
	return envelope, nil
}

// runInOrder executes the items one after the other until one fails.
func (s *Server) runInOrder(ctx context.Context, envelope commands.Request, items []batchItem, results []BatchItemResult) {
	failed := -1
	for i := range items {
		if failed >= 0 {
			p := newProblem(http.StatusFailedDependency, codeNotTried, "Item "+strconv.Itoa(failed)+" failed before it.")
			results[i] = BatchItemResult{Status: p.Status, Problem: p}
			continue
		}
		results[i] = s.runItem(ctx, envelope, items[i], i)
		if results[i].Problem != nil {
			failed = i
		}
	}
}

// runChains executes items of the same record in order, and different records side by side.
func (s *Server) runChains(ctx context.Context, envelope commands.Request, items []batchItem, results []BatchItemResult) {
	var order []string
	chains := map[string][]int{}
	for i, item := range items {
		// What creates a record is a chain of its own, unless the key says that it is the same command again.
		chain := "id " + string(item.ID)
		if item.ID == "" {
			chain = "key " + item.IdempotencyKey
		}
		if chains[chain] == nil {
			order = append(order, chain)
		}
		chains[chain] = append(chains[chain], i)
	}
	var group errgroup.Group
	group.SetLimit(batchWriters)
	for _, chain := range order {
		group.Go(func() error {
			for _, i := range chains[chain] {
				results[i] = s.runItem(ctx, envelope, items[i], i)
			}
			return nil
		})
	}
	group.Wait() // the functions return no error
}

// runItem executes one item; a panic of one does not take the others down.
func (s *Server) runItem(ctx context.Context, envelope commands.Request, item batchItem, index int) (result BatchItemResult) {
	defer func() {
		if p := recover(); p != nil {
			result = s.failedItem(ctx, panicError(p))
		}
	}()
	if item.fault != nil {
		return s.failedItem(ctx, item.fault)
	}
	at := itemPointer(index)
	route, ok := s.specs[item.Command]
	if !ok {
		return s.failedItem(ctx, domain.Invalid(at+"/command", "is not the name of a command"))
	}
	if err := checkKey(item.IdempotencyKey, envelope.DryRun, at+"/idempotencyKey"); err != nil {
		return s.failedItem(ctx, err)
	}
	switch {
	case route.spec.Creates && item.ID != "":
		return s.failedItem(ctx, domain.Invalid(at+"/id", "is not allowed: the command creates a record"))
	case !route.spec.Creates && item.ID == "":
		return s.failedItem(ctx, domain.Invalid(at+"/id", "is required"))
	}
	if item.Data == nil {
		return s.failedItem(ctx, domain.Invalid(at+"/data", "is required"))
	}
	command, err := decodeCommand(route, item.Data, at+"/data")
	if err != nil {
		return s.failedItem(ctx, err)
	}
	envelope.Key, envelope.Target, envelope.IfMatch, envelope.Command = item.IdempotencyKey, item.ID, item.IfMatch, command
	r, err := s.execute(ctx, envelope)
	if err != nil {
		return s.failedItem(ctx, underItem(err, at))
	}
	receipt := receiptOf(r)
	result = BatchItemResult{Status: http.StatusOK, Replayed: r.Replayed, Receipt: &receipt}
	if route.spec.Creates && !r.DryRun {
		result.Status = http.StatusCreated
	}
	return result
}

func (s *Server) failedItem(ctx context.Context, err error) BatchItemResult {
	p := *problemOf(err)
	s.report(ctx, &p, batchPath)
	return BatchItemResult{Status: p.Status, Problem: &p}
}

// underItem makes pointers of the bus, which lead into a command or name a header, lead into the body of the batch.
func underItem(err error, at string) error {
	p := *problemOf(err)
	data := at + "/data"
	p.Errors = append([]domain.FieldError(nil), p.Errors...)
	for i, f := range p.Errors {
		switch {
		case f.Pointer == headerIfMatch:
			p.Errors[i].Pointer = at + "/ifMatch"
		case f.Pointer == headerKey:
			p.Errors[i].Pointer = at + "/idempotencyKey"
		case f.Pointer == "id":
			p.Errors[i].Pointer = at + "/id"
		case f.Pointer == "" || f.Pointer[0] == '/':
			p.Errors[i].Pointer = data + f.Pointer
		}
	}
	p.Duplicates = append([]Duplicate(nil), p.Duplicates...)
	for i, d := range p.Duplicates {
		if d.Pointer != "" {
			p.Duplicates[i].Pointer = data + d.Pointer
		}
	}
	return &p
}
