//go:build cgo

package proxy

// libraries are the places of what a program with C code is linked with when it starts.
var libraries = []string{"/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib"}
