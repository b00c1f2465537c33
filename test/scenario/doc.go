// Package scenario tests the whole system as its users meet it: the built ebb program as a
// service, its socket, its command line, files on a real disk, servers that fail, and kill -9.
//
// It knows nothing of how Ebb works inside: what it looks at are answers of the service, exit
// codes, files, and the logs of the servers. The tests that need root (a full disk, a network
// that goes away) skip without it.
//
// EBB_KILLS sets how often the tests of kill -9 kill the service (12 unless set; 200 is what
// the project promises), EBB_SEED the seed of the moments at which they do.
package scenario
