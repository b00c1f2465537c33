module github.com/ebbtransfer/ebb

go 1.26
