package sales

import (
	"math"
	"slices"
)

// z95 is the 97.5th percentile of the normal distribution.
const z95 = 1.959963984540054

// newRate divides, with the Wilson score interval.
func newRate(count, of int64) Rate {
	r := Rate{Count: count, Of: of}
	if of == 0 {
		return r
	}
	n, p := float64(of), float64(count)/float64(of)
	r.Rate = &p
	if count > of {
		return r
	}
	centre := (p + z95*z95/(2*n)) / (1 + z95*z95/n)
	half := z95 / (1 + z95*z95/n) * math.Sqrt(p*(1-p)/n+z95*z95/(4*n*n))
	low, high := max(0, centre-half), min(1, centre+half)
	r.Low, r.High = &low, &high
	return r
}

// newDays describes a set of durations in days.
func newDays(days []float64) Days {
	d := Days{Count: int64(len(days))}
	if len(days) == 0 {
		return d
	}
	slices.Sort(days)
	sum := 0.0
	for _, x := range days {
		sum += x
	}
	median, p90, mean := percentile(days, 0.5), percentile(days, 0.9), sum/float64(len(days))
	d.Median, d.P90, d.Mean = &median, &p90, &mean
	return d
}

// percentile interpolates linearly between the closest ranks of sorted values, as percentile_cont of SQL does.
func percentile(sorted []float64, p float64) float64 {
	place := p * float64(len(sorted)-1)
	low := int(place)
	if low+1 == len(sorted) {
		return sorted[low]
	}
	return sorted[low] + (place-float64(low))*(sorted[low+1]-sorted[low])
}
