package commands

import "reflect"

// Weights of what the cache keeps beside the events' own data, in bytes, roughly.
const (
	streamWeight = 600 // per stream
	eventWeight  = 300 // per event: ids, types, fingerprint
)

// weigh estimates the memory behind a value in bytes, the value's own words left out. A state holds about what its
// events brought.
func weigh(v reflect.Value) int {
	switch v.Kind() {
	case reflect.String:
		return v.Len()
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return 0
		}
		return int(v.Elem().Type().Size()) + weigh(v.Elem())
	case reflect.Slice, reflect.Array:
		n := v.Len() * int(v.Type().Elem().Size())
		switch v.Type().Elem().Kind() {
		case reflect.String, reflect.Pointer, reflect.Interface, reflect.Slice, reflect.Array, reflect.Struct, reflect.Map:
			for i := range v.Len() {
				n += weigh(v.Index(i))
			}
		}
		return n
	case reflect.Map:
		n := 0
		for e := v.MapRange(); e.Next(); {
			n += int(v.Type().Key().Size()+v.Type().Elem().Size()) + weigh(e.Key()) + weigh(e.Value())
		}
		return n
	case reflect.Struct:
		n := 0
		for i := range v.NumField() {
			n += weigh(v.Field(i))
		}
		return n
	}
	return 0
}
