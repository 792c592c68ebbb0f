package customer

import (
	"slices"

	"github.com/rapport-crm/rapport/domain"
)

// Merging takes a command on each side: Merge makes the survivor stand for the duplicate, then MergeInto closes the
// duplicate. The second demands the first, so a duplicate never points at a customer that does not know of it; a merge
// that stops halfway is completed by repeating both. Once the first is written the second always succeeds:
//
//  1. A survivor holds the key of its duplicate for ever, also after it became a duplicate itself, so a duplicate has one
//     survivor.
//  2. Merge goes on only while nobody holds the key of the survivor. That is looked at after the key of the duplicate was
//     claimed, so merges begun at once never form a circle, of a pair or of more.
//  3. A survivor that became a duplicate meanwhile is still the one that absorbed this customer: they form a chain.

// DuplicateKey is held by the customer that absorbs the duplicate.
func DuplicateKey(duplicate domain.ID) domain.Key {
	return domain.Key{Kind: "duplicate", Value: string(duplicate), Pointer: "/duplicateId"}
}

func merge(c Customer, cmd Merge, self domain.ID) ([]domain.Event, error) {
	switch {
	case cmd.DuplicateID == self:
		return nil, domain.Reject("merge-with-itself", "a customer is not a duplicate of itself").At("/duplicateId")
	case slices.Contains(c.Absorbed, cmd.DuplicateID):
		return nil, nil
	case !cmd.Duplicate.Exists():
		return nil, unknown("/duplicateId", cmd.DuplicateID)
	case cmd.Duplicate.MergedInto != "":
		return nil, merged(cmd.Duplicate).At("/duplicateId")
	case slices.Contains(cmd.Ancestors, cmd.DuplicateID):
		return nil, domain.Reject("merge-with-ancestor", "this company belongs to {duplicateId}: clear its parent first, or merge the other way round",
			cmd.DuplicateID).At("/duplicateId")
	case cmd.Duplicate.Kind != c.Kind:
		return nil, domain.Reject("merge-of-kinds", "a {duplicateKind} is not a duplicate of a {kind}", cmd.Duplicate.Kind, c.Kind).At("/duplicateId")
	}
	return one(Merged{DuplicateID: cmd.DuplicateID, Reason: cmd.Reason})
}

func mergeInto(c Customer, cmd MergeInto, self domain.ID) ([]domain.Event, error) {
	switch {
	case !cmd.Survivor.Exists():
		return nil, unknown("/survivorId", cmd.SurvivorID)
	case !slices.Contains(cmd.Survivor.Absorbed, self):
		return nil, domain.Reject("merge-not-begun", "{survivorId} has not absorbed this customer", cmd.SurvivorID).At("/survivorId")
	case slices.Contains(c.Absorbed, cmd.SurvivorID) && self < cmd.SurvivorID:
		// Only a log from before rule 2 holds a pair merged both ways. The smaller id survives.
		return nil, domain.Reject("merge-cycle", "{survivorId} is to be merged into this customer", cmd.SurvivorID).At("/survivorId")
	}
	return one(MergedInto{SurvivorID: cmd.SurvivorID})
}
