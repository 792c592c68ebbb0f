package customer

import (
	"slices"

	"github.com/rapport-crm/rapport/domain"
)

// Merging takes a command on each side: Merge makes the survivor stand for the duplicate, then MergeInto closes the
// duplicate. The second demands the first, so a duplicate never points at a customer that does not know of it; a merge
// that stops halfway is completed by repeating both.

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
	case cmd.Duplicate.Kind != c.Kind:
		return nil, domain.Reject("merge-of-kinds", "a %s is not a duplicate of a %s", cmd.Duplicate.Kind, c.Kind).At("/duplicateId")
	}
	return one(Merged{DuplicateID: cmd.DuplicateID, Reason: cmd.Reason})
}

func mergeInto(c Customer, cmd MergeInto, self domain.ID) ([]domain.Event, error) {
	switch {
	case !cmd.Survivor.Exists():
		return nil, unknown("/survivorId", cmd.SurvivorID)
	case cmd.Survivor.MergedInto != "":
		return nil, merged(cmd.Survivor).At("/survivorId")
	case !slices.Contains(cmd.Survivor.Absorbed, self):
		return nil, domain.Reject("merge-not-begun", "%s has not absorbed this customer", cmd.SurvivorID).At("/survivorId")
	case slices.Contains(c.Absorbed, cmd.SurvivorID) && self < cmd.SurvivorID:
		// Two people merged the pair at once, one each way. Both sides see it here: the smaller id survives.
		return nil, domain.Reject("merge-cycle", "%s is to be merged into this customer", cmd.SurvivorID).At("/survivorId")
	}
	return one(MergedInto{SurvivorID: cmd.SurvivorID})
}
