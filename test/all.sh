#!/usr/bin/env bash
# Runs all checks and tests: formatting, vet (for other systems too), lint, and go test -race.
# As root on Debian it installs what they need; otherwise it says what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(nginx apache2 caddy python3 curl iproute2 dbus tmux zsh fish groff mmdebstrap systemd-container
	squid libapache2-mod-auth-gssapi gss-ntlmssp btrfs-progs xfsprogs krb5-kdc krb5-admin-server krb5-user
	dbus-daemon libglib2.0-bin dconf-gsettings-backend gsettings-desktop-schemas)
missing=()
for p in "${packages[@]}"; do
	dpkg -s "$p" >/dev/null 2>&1 || missing+=("$p")
done
# These may come from elsewhere than Debian, whose packages then conflict.
command -v node >/dev/null || missing+=(nodejs)
command -v npm >/dev/null || missing+=(npm)
if [ ${#missing[@]} -gt 0 ]; then
	if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
		apt-get update -qq
		# Debian starts the servers it installs; the tests start their own.
		printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d.ebb
		had=""
		[ -e /usr/sbin/policy-rc.d ] && had=yes
		[ -n "$had" ] || install -m 0755 /usr/sbin/policy-rc.d.ebb /usr/sbin/policy-rc.d
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
		[ -n "$had" ] || rm -f /usr/sbin/policy-rc.d
		rm -f /usr/sbin/policy-rc.d.ebb
	else
		echo "tests that need these packages will be skipped: apt-get install ${missing[*]}" >&2
	fi
fi

lint=v2.15.0
bin=$(go env GOPATH)/bin
if ! "$bin/golangci-lint" version 2>/dev/null | grep -q "${lint#v}"; then
	echo "building golangci-lint $lint, which takes some minutes once" >&2
	GOBIN=$bin go install "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$lint"
fi

versitygw=v1.8.0
if [ ! -x "$bin/versitygw" ] || ! go version -m "$bin/versitygw" | grep -q "versity/versitygw[[:space:]]*$versitygw"; then
	echo "building versitygw $versitygw, an S3 server for tests, which takes some minutes once" >&2
	GOBIN=$bin go install "github.com/versity/versitygw/cmd/versitygw@$versitygw" ||
		echo "tests that need versitygw will be skipped" >&2
fi
# A module of its own says which tusd; when it is there already this takes a second.
GOBIN=$bin go -C test/servers/tusd install github.com/tus/tusd/v2/cmd/tusd ||
	echo "tests that need tusd will be skipped" >&2

unformatted=$(git ls-files '*.go' | xargs gofmt -l)
if [ -n "$unformatted" ]; then
	echo "gofmt wants: $unformatted" >&2
	exit 1
fi
go vet ./...
for os in windows darwin freebsd; do
	GOOS=$os go vet ./bits ./client ./internal/... ./cmd/...
done
"$bin/golangci-lint" run ./...
# -count=1: the scenarios and the client's examples build ebb themselves, which the cache of test
# results does not know of.
go test -race -count=1 -timeout 20m "$@" $(go list ./... | grep -v /bench/politeness$)
# By itself, since it measures: others would keep it from what it measures with.
go test -count=1 -timeout 20m "$@" ./bench/politeness
