package tenantauth

import (
	"fmt"
	"io"
	"log/slog"
)

// Key is a secret: an API key in plaintext, exactly as the customer presented it, without the "Bearer " prefix.
//
// It is redacted in formatted output, logs and JSON. Convert it to a string to read it.
type Key string

const redacted = "[redacted]"

// String returns a placeholder instead of the key.
func (Key) String() string { return redacted }

// Format prints a placeholder instead of the key, for any verb.
func (Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText returns a placeholder instead of the key.
func (Key) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue returns a placeholder instead of the key.
func (Key) LogValue() slog.Value { return slog.StringValue(redacted) }
