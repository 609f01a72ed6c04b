package admission

import (
	"fmt"
	"strings"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
)

// Where is where keys are presented.
type Where struct {
	// header is a header of its own, in lower case; empty: "Authorization: Bearer …".
	header string
}

// In is a header of its own for keys.
func In(header string) (Where, error) {
	if header == "" || len(header) > 100 || strings.ContainsFunc(header, notToken) {
		return Where{}, fmt.Errorf("WithHeader(%q): must be the name of a header, such as X-API-Key", header)
	}
	if strings.EqualFold(header, "authorization") {
		// Then it is the scheme that matters.
		return Where{}, nil
	}
	return Where{strings.ToLower(header)}, nil
}

// notToken tells whether a character can not be in the name of a header (RFC 9110).
func notToken(char rune) bool {
	switch {
	case 'a' <= char && char <= 'z', 'A' <= char && char <= 'Z', '0' <= char && char <= '9':
		return false
	}
	return !strings.ContainsRune("!#$%&'*+-.^_`|~", char)
}

const (
	authorization = "authorization"
	// longestKey is beyond any key: the service need not be asked.
	longestKey = 512
)

// critical headers are refused when they are there twice, whichever this server looks at: something behind it might
// look at the other one.
var critical = []string{authorization, "mcp-session-id"}

// Key is the key of a request, by all values of its headers; or the reply to a request that has none, or may have two.
func (w Where) Key(values func(header string) []string) (tenantauth.Key, Reply) {
	name := w.header
	if name == "" {
		name = authorization
	}
	for _, header := range append(critical[:len(critical):len(critical)], name) {
		if len(values(header)) > 1 {
			return "", Twofold()
		}
	}
	given := values(name)
	if len(given) == 0 {
		return "", Without()
	}
	key := strings.TrimSpace(given[0])
	if name == authorization {
		var scheme string
		scheme, key, _ = strings.Cut(key, " ")
		key = strings.TrimSpace(key)
		if !strings.EqualFold(scheme, "Bearer") {
			return "", Without()
		}
	}
	switch {
	case key == "":
		return "", Without()
	case len(key) > longestKey || strings.ContainsFunc(key, func(char rune) bool { return char <= ' ' || char > '~' }):
		return "", Of(tenantauth.Validation{Verdict: tenantauth.Malformed}, nil)
	}
	return tenantauth.Key(key), Reply{}
}
