package bits

import (
	"errors"
	"testing"
)

func TestErrorInWords(t *testing.T) {
	for _, language := range []string{"", "en", "en-GB", "en_US.UTF-8", "C", "1033", "0x0409"} {
		text, err := InvalidRange.Description(language)
		if err != nil || text != InvalidRange.Message() {
			t.Errorf("%q: %q, %v", language, text, err)
		}
		if text, err := ContextRemoteFile.Description(language); err != nil || text != ContextRemoteFile.Message() {
			t.Errorf("%q: %q, %v", language, text, err)
		}
	}
	for _, language := range []string{"de", "fr-FR", "0x0407", "english", "e n"} {
		want := &Error{Code: LanguageNotFound}
		if _, err := InvalidRange.Description(language); !errors.Is(err, want) {
			t.Errorf("%q: %v", language, err)
		}
		if _, err := ContextNone.Description(language); !errors.Is(err, want) {
			t.Errorf("%q: %v", language, err)
		}
	}
	for c := ContextNone; c <= ContextServerCertificateCallback; c++ {
		if c.Message() == "" {
			t.Errorf("%s has no sentence", c)
		}
	}
}

// TestErrorObject: client.md 1.8.
func TestErrorObject(t *testing.T) {
	for _, c := range []struct {
		context  Context
		file     string
		protocol string
	}{
		{ContextRemoteFile, "https://h/a", "http"},
		{ContextGeneralTransport, "http://h/a", "http"},
		{ContextRemoteApplication, "http://h/a", "http"},
		{ContextRemoteFile, "file:///mnt/a", "file"},
		{ContextRemoteFile, "/mnt/a", "file"},
		{ContextLocalFile, "/home/a", ""},
		{ContextGeneralQueueManager, "", ""},
		{ContextGeneralTransport, "", ""},
	} {
		e := &Error{Code: TimedOut, Context: c.context, File: c.file}
		i := e.Info()
		if i.Protocol != c.protocol || i.ContextMessage != c.context.Message() {
			t.Errorf("%s of %q: %+v", c.context, c.file, i)
		}
		if got, err := i.GetProtocol(); got != c.protocol || (c.protocol == "") != errors.Is(err, &Error{Code: ProtocolNotAvailable}) {
			t.Errorf("%s of %q: protocol %q, %v", c.context, c.file, got, err)
		}
		if got, err := i.GetFile(); got != c.file || (c.file == "") != errors.Is(err, &Error{Code: FileNotAvailable}) {
			t.Errorf("%s of %q: file %q, %v", c.context, c.file, got, err)
		}
	}
}
