package api

// slots bound how many of something are under way at the same time.
type slots chan struct{}

// take admits one more, who must leave; or refuses it at once, for the reason given, when there are too many.
func (s slots) take(refusal string) error {
	select {
	case s <- struct{}{}:
		return nil
	default:
		return overloaded(refusal)
	}
}

func (s slots) leave() { <-s }
