package domain

// ReservationName is the aggregate part of the streams that make values unique: one stream per value, named by a keyed
// hash of it, so that the log does not tell the value.
const ReservationName = "reservation"

// ReservationClaimed says that an aggregate holds the value from here on, or is about to: a claim is made before the
// event that needs it.
type ReservationClaimed struct {
	Aggregate string `json:"aggregate" doc:"Name of the aggregate that holds the value."`
	ID        ID     `json:"id" doc:"The aggregate that holds the value."`
	Kind      string `json:"kind" doc:"What must be unique: tax-id, email, phone, name-and-region, product-code; or duplicate, a customer that was merged."`
	CommandID string `json:"commandId" doc:"The command that made the claim; its retry adopts it."`
}

// EventType implements Event.
func (ReservationClaimed) EventType() string { return "reservation.claimed" }

// ReservationReleased says that nobody holds the value any more.
type ReservationReleased struct {
	Aggregate string `json:"aggregate" doc:"Name of the aggregate that held the value."`
	ID        ID     `json:"id" doc:"The aggregate that held the value."`
	CommandID string `json:"commandId" doc:"The command that released it."`
}

// EventType implements Event.
func (ReservationReleased) EventType() string { return "reservation.released" }

// ReservationLapsed stands in the stream of the aggregate that claimed a value and never came to hold it. It says nothing
// about the aggregate: it occupies the revision at which the command that made the claim would have gone on, so that
// this command cannot complete after its claim was given away. Evolve functions ignore it.
type ReservationLapsed struct {
	CommandID string `json:"commandId" doc:"The command whose claim is given away."`
}

// EventType implements Event.
func (ReservationLapsed) EventType() string { return "reservation.lapsed" }

// Reservation declares the events of uniqueness reservations for the codec and the catalogue. It has no commands: the
// command bus alone writes reservations.
var Reservation = Definition{
	Name:   ReservationName,
	Plural: "reservations",
	Doc:    "A value, such as an e-mail address, that only one aggregate of a tenant may hold.",
	Events: []EventSpec{
		{
			Example: ReservationClaimed{
				Aggregate: "customer", ID: "0197a3f0-5c1e-7d3a-9b7e-2f6a1c4d8e90", Kind: "email",
				CommandID: "5f0c9d3e-6b1a-5c2f-8e47-1a2b3c4d5e6f",
			},
			Doc: "An aggregate claimed a value that must be unique.",
			Words: Words{
				En: "Unique {kind} claimed for {aggregate} {id}",
				Zh: "唯一值{kind}由{aggregate} {id}占用",
			},
		},
		{
			Example: ReservationReleased{
				Aggregate: "customer", ID: "0197a3f0-5c1e-7d3a-9b7e-2f6a1c4d8e90",
				CommandID: "5f0c9d3e-6b1a-5c2f-8e47-1a2b3c4d5e6f",
			},
			Doc: "A value that must be unique became free.",
			Words: Words{
				En: "Unique value of {aggregate} {id} is free again",
				Zh: "{aggregate} {id}的唯一值已释放",
			},
		},
		{
			Example: ReservationLapsed{CommandID: "5f0c9d3e-6b1a-5c2f-8e47-1a2b3c4d5e6f"},
			Doc:     "The claim of a command that never completed was given away; the command can no longer complete at this place.",
			Words: Words{
				En: "Claim of command {commandId} lapsed",
				Zh: "命令{commandId}的占用已失效",
			},
		},
	},
}
