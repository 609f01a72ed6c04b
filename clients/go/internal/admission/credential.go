package admission

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
)

// KeyLocation is where requests carry the key.
type KeyLocation struct {
	// headers are the names of the headers, in lower case; empty for "Authorization: Bearer …" only.
	headers []string
	// holdsToken is true if requests carry a principal token instead of a key.
	holdsToken bool
}

// ForTokens returns the same location for principal tokens. Their verifier checks their length and characters.
func (w KeyLocation) ForTokens() KeyLocation {
	w.holdsToken = true
	return w
}

// InHeaders returns the location of these headers. In the Authorization header, the Bearer scheme applies.
func InHeaders(headers ...string) (KeyLocation, error) {
	if len(headers) == 0 {
		return KeyLocation{}, errors.New("WithHeader(): must name at least one header, such as X-API-Key")
	}
	var location KeyLocation
	for _, header := range headers {
		if !isHeaderName(header) {
			return KeyLocation{}, fmt.Errorf("WithHeader(%.100q): must be the name of a header, such as X-API-Key", header)
		}
		location.headers = append(location.headers, strings.ToLower(header))
	}
	return location, nil
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
// values of a header. The same key in several headers is one credential. That includes the Authorization header even if
// keys are not read from it: another server behind this one might read them there.
func (w KeyLocation) KeyFrom(values func(header string) []string) (tenantauth.Key, Reply) {
	names := w.headers
	if len(names) == 0 {
		names = []string{authorization}
	}
	for _, header := range slices.Concat(singleHeaders, names) {
		if len(values(header)) > 1 {
			return "", AmbiguousReply()
		}
	}
	var key string
	for _, name := range names {
		found := credentialIn(name, values)
		if found != "" && key != "" && found != key {
			return "", AmbiguousReply()
		}
		key = cmp.Or(key, found)
	}
	switch other := credentialIn(authorization, values); {
	case key == "":
		return "", w.missing()
	case w.holdsToken:
	case other != "" && other != key:
		return "", AmbiguousReply()
	case len(key) > maxKeyLen || strings.ContainsFunc(key, func(char rune) bool { return char <= ' ' || char > '~' }):
		return "", ReplyFor(tenantauth.Validation{Verdict: tenantauth.Malformed}, nil)
	}
	return tenantauth.Key(key), Reply{}
}

// credentialIn returns the key in a header that occurs at most once; empty if there is none.
func credentialIn(header string, values func(header string) []string) string {
	found := values(header)
	if len(found) == 0 {
		return ""
	}
	key := strings.TrimSpace(found[0])
	if header != authorization {
		return key
	}
	scheme, key, _ := strings.Cut(key, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(key)
}

func (w KeyLocation) missing() Reply {
	missing := NoCredentialsReply()
	if w.holdsToken {
		missing.Detail = "A principal token is required. It is added by the proxy in front of this server."
	}
	return missing
}
