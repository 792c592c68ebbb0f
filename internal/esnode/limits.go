package esnode

import "time"

// Limits of one request. What exceeds them is answered with INVALID_ARGUMENT and
// the protocol's exception trailer; nothing of the request is stored.
const (
	// MaxEventBytes bounds the data and the custom metadata of one event together.
	MaxEventBytes = 1 << 20
	// MaxAppendBytes bounds the events of one append together.
	MaxAppendBytes = 4 << 20
	// MaxAppendEvents bounds the number of events of one append.
	MaxAppendEvents = 10_000
	// MaxStreamNameBytes bounds a stream name, in bytes of UTF-8.
	MaxStreamNameBytes = 1024
	// MaxEventTypeBytes bounds an event type, in bytes of UTF-8.
	MaxEventTypeBytes = 512
	// MaxFilterPrefixes bounds the prefixes of one filter.
	MaxFilterPrefixes = 1_000
	// MaxFilterBytes bounds the text of one filter: its regex or its prefixes together.
	MaxFilterBytes = 64 << 10
)

// Internal sizes.
const (
	// maxMessageBytes is what the transport accepts: far above MaxEventBytes, so that
	// an oversized event meets the protocol's own error and not a transport error.
	maxMessageBytes = 17 << 20

	// A group commit closes at the first of these two.
	groupEvents = 1024
	groupBytes  = 4 << 20
	// queuedRequests and queuedCommits bound what waits for the writer and for the disk.
	queuedRequests = 1024
	queuedCommits  = 8

	// maxBatchTime is how long an append in a batch may take from its first message to
	// its answer, whatever deadline the client names.
	maxBatchTime = 10 * time.Second
	// batchesUnderWay and batchBytesUnderWay bound what one call of BatchAppend may have
	// with the writer; with more the client waits.
	batchesUnderWay    = 1024
	batchBytesUnderWay = 16 << 20
	// openBatchBytes bounds the memory of batches whose last message has not come, over
	// all calls; what exceeds it is refused. An empty batch counts as openBatchOverhead.
	openBatchBytes    = 64 << 20
	openBatchOverhead = 1 << 10

	// recentEvents is how many event ids are remembered for idempotent retries that
	// name no exact revision. It exceeds what one group commit can hold.
	recentEvents = 1 << 16
	// cachedStreams bounds the writer's cache of stream states.
	cachedStreams = 1 << 15

	// A page is what is read from the store before anything is sent, so that a slow
	// client never pins an iterator. It closes at the first of these three.
	pageMessages = 512
	pageBytes    = 1 << 20
	pageRecords  = 8192

	// defaultSearchWindow is the window of a filter that names none, as in EventStoreDB.
	defaultSearchWindow = 32
	// fellBehindEvents is how far a live subscription may lag before it is told so.
	fellBehindEvents = 4096
)
