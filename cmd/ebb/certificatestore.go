package main

import (
	"errors"
	"slices"
	"strings"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
)

// storeLocations are the places where Windows has certificate stores (client.md 2.7). Here they stand
// for nothing, and are taken so that scripts need not change.
var storeLocations = []string{"CURRENT_USER", "LOCAL_MACHINE", "CURRENT_SERVICE", "SERVICES", "USERS", "CURRENT_USER_GROUP_POLICY", "LOCAL_MACHINE_GROUP_POLICY", "LOCAL_MACHINE_ENTERPRISE"}

// storeCertificate reads a certificate that the originals' command lines name by a store and by its
// hash or subject. The store is a file.
func (a *app) storeCertificate(location, store, hash, subject string) (*bits.ClientCertificateFile, error) {
	plain := func(s string) string { return strings.ToUpper(strings.ReplaceAll(s, "_", "")) } // PowerShell writes CurrentUser
	if location != "" && !slices.ContainsFunc(storeLocations, func(l string) bool { return plain(l) == plain(location) }) {
		return nil, bits.Errorf(bits.NotImplemented, "there is no store location %q (want %s)", location, strings.Join(storeLocations, ", "))
	}
	const how = "give the path of a PEM or PKCS#12 file, with the key in it, as the store's name"
	if store == "" {
		return nil, hinted(bits.Errorf(bits.FileNotFound, "there are no certificate stores here"), how)
	}
	f, err := a.readCertificate(store, "", "")
	var e *bits.Error
	if errors.As(err, &e) && e.Code == bits.FileNotFound && !strings.ContainsAny(store, `/.`) {
		return nil, hinted(bits.Errorf(bits.FileNotFound, "there are no certificate stores here, and no file %s", store), how)
	}
	f.SHA1, f.Subject = hash, subject
	return &f, err
}

// adminCertificates are the switches that change the client certificate.
var adminCertificates = []adminSwitch{
	{"setclientcertificatebyid", "JOB LOCATION FILE HASH", 4, 4, "sets the client certificate, by a PEM or PKCS#12 file and the certificate's SHA-1 hash", "set client certificate",
		withJob(func(b *bitsadmin, job *client.Job, _ *bits.Job, args []string) error {
			return b.setCertificate(job, args[0], args[1], args[2], "")
		})},
	{"setclientcertificatebyname", "JOB LOCATION FILE SUBJECT", 4, 4, "sets the client certificate, by a PEM or PKCS#12 file and a part of the certificate's subject", "set client certificate",
		withJob(func(b *bitsadmin, job *client.Job, _ *bits.Job, args []string) error {
			return b.setCertificate(job, args[0], args[1], "", args[2])
		})},
	{"removeclientcertificate", "JOB", 1, 1, "removes the client certificate", "remove client certificate", withJob(func(b *bitsadmin, job *client.Job, _ *bits.Job, _ []string) error {
		if _, err := job.RemoveCertificate(b.ctx); err != nil {
			return err
		}
		b.say("Client certificate removed.\n")
		return nil
	})},
}

func (b *bitsadmin) setCertificate(job *client.Job, location, store, hash, subject string) error {
	f, err := b.a.storeCertificate(location, store, hash, subject)
	if err != nil {
		return err
	}
	c, err := job.SetCertificate(b.ctx, *f)
	if err != nil {
		return err
	}
	b.say("Client certificate set to %s.\n", safe(c.Subject))
	return nil
}
