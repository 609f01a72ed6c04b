// Package websockettest tests guards with a WebSocket library. It is a module of its own, so that programs that use this
// client do not depend on the library.
package websockettest
