package admission

import (
	"fmt"
	"strings"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
)

// KeyLocation is where requests carry the key.
type KeyLocation struct {
	// header is the name of a custom header, in lower case; empty for "Authorization: Bearer …".
	header string
	// holdsToken is true if requests carry a principal token instead of a key.
	holdsToken bool
}

// ForTokens returns the same location for principal tokens. Their verifier checks their length and characters.
func (w KeyLocation) ForTokens() KeyLocation {
	w.holdsToken = true
	return w
}

// InHeader returns the location of a custom header.
func InHeader(header string) (KeyLocation, error) {
	if !isHeaderName(header) {
		return KeyLocation{}, fmt.Errorf("WithHeader(%q): must be the name of a header, such as X-API-Key", header)
	}
	if strings.EqualFold(header, "authorization") {
		// With the Authorization header, the Bearer scheme applies.
		return KeyLocation{}, nil
	}
	return KeyLocation{header: strings.ToLower(header)}, nil
}

func isHeaderName(text string) bool {
	return text != "" && len(text) <= 100 && !strings.ContainsFunc(text, isNotTokenChar)
}

// isNotTokenChar reports whether a character is not allowed in a header name (RFC 9110).
func isNotTokenChar(char rune) bool {
	switch {
	case 'a' <= char && char <= 'z', 'A' <= char && char <= 'Z', '0' <= char && char <= '9':
		return false
	}
	return !strings.ContainsRune("!#$%&'*+-.^_`|~", char)
}

const (
	authorization = "authorization"
	// maxKeyLen is longer than any key. Longer texts are rejected without calling the service.
	maxKeyLen = 512
)

// singleHeaders are rejected if they occur twice, even if this server does not read them: another server behind it
// might read the other value.
var singleHeaders = []string{authorization, "mcp-session-id"}

// KeyFrom returns the key of a request, or the reply to a request that has no key or may have two. values returns all
// values of a header.
func (w KeyLocation) KeyFrom(values func(header string) []string) (tenantauth.Key, Reply) {
	name := w.header
	if name == "" {
		name = authorization
	}
	for _, header := range append(singleHeaders[:len(singleHeaders):len(singleHeaders)], name) {
		if len(values(header)) > 1 {
			return "", AmbiguousReply()
		}
	}
	missing := NoCredentialsReply()
	if w.holdsToken {
		missing.Detail = "A principal token is required. It is added by the proxy in front of this server."
	}
	found := values(name)
	if len(found) == 0 {
		return "", missing
	}
	key := strings.TrimSpace(found[0])
	if name == authorization {
		var scheme string
		scheme, key, _ = strings.Cut(key, " ")
		key = strings.TrimSpace(key)
		if !strings.EqualFold(scheme, "Bearer") {
			return "", missing
		}
	}
	switch {
	case key == "":
		return "", missing
	case w.holdsToken:
	case len(key) > maxKeyLen || strings.ContainsFunc(key, func(char rune) bool { return char <= ' ' || char > '~' }):
		return "", ReplyFor(tenantauth.Validation{Verdict: tenantauth.Malformed}, nil)
	}
	return tenantauth.Key(key), Reply{}
}
