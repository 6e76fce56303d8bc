// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduling

import (
	"net/url"
	"regexp/syntax"
	"strconv"
	"strings"

	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
)

// CEL counts what a call costs after it, by rules that let some calls make or read
// much more than they cost. So each call has a price that is known before it: the
// size of what it reads, as if nothing in that were shared, and of what it makes. A
// call whose price alone is above the limit is not run. No value needs a bound then.
const (
	bytesPerUnit = 10 // of texts, as CEL has it
	// maxPattern is how many instructions a regular expression may have.
	maxPattern = 1000
	// maxNumber is how long the text of a quantity or version may be, and how large
	// the exponent of a quantity: what is done with it costs 1.
	maxNumber = 100
	// tooMuch is more than anything may cost.
	tooMuch = costPerCall + 1
)

// price is the cost of a call at least, at most tooMuch.
func price(function string, args []ref.Val) int {
	units := 1
	for _, arg := range read(function, args) {
		if units += weight(arg, costPerCall-units); units > costPerCall {
			return tooMuch
		}
	}
	return min(max(units, beyond(function, args, units)), tooMuch)
}

// read are those arguments that a call reads all of.
func read(function string, args []ref.Val) []ref.Val {
	switch function {
	case operators.Index, operators.OptIndex, operators.OptSelect, "size", "dyn", "type", "optional.of", "hasValue", "value", "or", "orValue", "scores":
		return nil
	case operators.Add, "cel.@mapInsert":
		switch args[0].(type) {
		case traits.Lister, traits.MutableMapper: // are not copied
			return args[1:]
		}
	case "string":
		if _, ok := args[0].(types.String); ok {
			return nil
		}
	case operators.Equals, operators.NotEquals:
		if length(args[0]) < length(args[1]) {
			return args[:1]
		}
		return args[1:]
	case operators.In:
		if _, ok := args[1].(traits.Mapper); ok {
			return args[:1]
		}
	}
	return args
}

// beyond is what a call costs that does more than read its arguments, which is units.
func beyond(function string, args []ref.Val, units int) int {
	switch function {
	case operators.Add: // lists that are joined so are slow to go through
		_, isList := args[0].(traits.Lister)
		if _, grows := args[0].(traits.MutableLister); isList && !grows {
			return 10 * units
		}
	case "join":
		if list, ok := args[0].(traits.Lister); ok && len(args) > 1 {
			return units + steps(number(list.Size())*length(args[1]))
		}
	case "format": // slow, and numbers are longer than they weigh
		return 30 * units
	case "getQuery":
		return bytesPerUnit * units
	case "sets.contains", "sets.equivalent", "sets.intersects", "distinct", "sort", "@sortByAssociatedKeys":
		return units * units
	case "flatten":
		if len(args) > 1 {
			return units * min(number(args[1]), units)
		}
	case "lists.range":
		return number(args[0])
	default:
		return ofText(function, args, units)
	}
	return 0
}

// ofText is the same for the functions of one text.
func ofText(function string, args []ref.Val, units int) int {
	switch function {
	case "contains", "indexOf", "lastIndexOf":
		return steps(length(args[0])) * steps(length(args[1]))
	case "matches", matchesLiteral, "find", "findAll":
		return matching(length(args[0]), text(args[1]))
	case "replace":
		return units + steps(replacing(args))
	case "split":
		return units + strings.Count(text(args[0]), text(args[1]))
	case "quantity", "isQuantity", "semver", "isSemver":
		return valuing(text(args[0]))
	}
	return 0
}

// matching is what a pattern costs on a text of that length. It may be compiled first.
func matching(length int, pattern string) int {
	n := instructions(pattern)
	if n > maxPattern {
		return tooMuch
	}
	return n + length + steps((1+length)*max(n, len(pattern))/4)
}

// replacing is how long the text that replace makes is.
func replacing(args []ref.Val) int {
	was, old, by := text(args[0]), text(args[1]), text(args[2])
	n := strings.Count(was, old)
	if len(args) > 3 && number(args[3]) >= 0 {
		n = min(n, number(args[3]))
	}
	return len(was) + n*max(len(by)-len(old), 0)
}

// valuing is what it costs to make a number of a text.
func valuing(text string) int {
	at := strings.LastIndexAny(text, "eE")
	exponent, err := strconv.Atoi(text[at+1:])
	if len(text) > maxNumber || (at >= 0 && err == nil && (exponent > maxNumber || exponent < -maxNumber)) {
		return tooMuch
	}
	return 0
}

// weight is the size of a value, or somewhat more than left.
func weight(value ref.Val, left int) int {
	if v, ok := value.(traits.Sizer); ok && number(v.Size()) > left && length(value) == 0 {
		return number(v.Size())
	}
	total := 0
	switch v := value.(type) {
	case types.String, types.Bytes:
		return steps(length(v))
	case *types.Optional:
		if v.HasValue() {
			return 1 + weight(v.GetValue(), left)
		}
	case traits.Mapper:
		for it := v.Iterator(); total <= left && it.HasNext() == types.True; {
			key := it.Next()
			total += 1 + weight(key, left-total)
			if below, ok := v.Find(key); ok {
				total += weight(below, left-total)
			}
		}
	case traits.Lister:
		for it := v.Iterator(); total <= left && it.HasNext() == types.True; {
			total += 1 + weight(it.Next(), left-total)
		}
	default:
		if u, ok := value.Value().(*url.URL); ok {
			return steps(len(u.RawQuery) + len(u.Path) + len(u.Host))
		}
	}
	return total
}

func text(value ref.Val) string {
	s, _ := value.(types.String)
	return string(s)
}

func length(value ref.Val) int {
	switch v := value.(type) {
	case types.String:
		return len(v)
	case types.Bytes:
		return len(v)
	}
	return 0
}

// steps are the units of so many bytes.
func steps(bytes int) int { return (bytes + bytesPerUnit - 1) / bytesPerUnit }

func number(value ref.Val) int {
	n, _ := value.(types.Int)
	return int(n)
}

// instructions is how many a regular expression has, about; 0 if it is none.
func instructions(pattern string) int {
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return 0
	}
	return instructionsOf(parsed)
}

func instructionsOf(r *syntax.Regexp) int {
	n := 1
	if r.Op == syntax.OpLiteral {
		n = len(r.Rune)
	}
	for _, below := range r.Sub {
		n += instructionsOf(below)
	}
	if r.Op == syntax.OpRepeat {
		n *= max(r.Min, r.Max, 1)
	}
	return n
}
