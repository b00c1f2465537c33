package bits

import (
	"net/url"
	"strings"
)

// contextMessages say what an error of each context is about.
var contextMessages = [...]string{
	ContextNone:                      "there is no error",
	ContextUnknown:                   "the error occurred at an unknown place",
	ContextGeneralQueueManager:       "the error occurred in the service, while it managed its jobs",
	ContextQueueManagerNotification:  "the error occurred while the owner was told of the job",
	ContextLocalFile:                 "the error occurred while a file on this machine was used",
	ContextRemoteFile:                "the error occurred while the file on the server was used",
	ContextGeneralTransport:          "the error occurred on the way to the server: name, proxy or connection",
	ContextRemoteApplication:         "the error occurred in the server's application that the file was sent to",
	ContextServerCertificateCallback: "the program that was asked refused the server's certificate",
}

// Message returns a sentence that says where the error occurred, without a full stop.
func (c Context) Message() string {
	if int(c) < len(contextMessages) {
		return contextMessages[c]
	}
	return contextMessages[ContextUnknown]
}

// speaks says whether there are texts in a language: English, by its tag or locale (en, en-GB,
// en_US.UTF-8), by the number that Windows has for it (1033, 0x0409), or as the default (the
// empty string, 0, C, POSIX).
func speaks(language string) bool {
	l := strings.ToLower(language)
	l, _, _ = strings.Cut(l, ".")
	l, _, _ = strings.Cut(strings.ReplaceAll(l, "_", "-"), "-")
	switch l {
	case "", "0", "c", "posix", "en", "1033", "0x409", "0x0409", "2057", "0x809", "0x0809":
		return true
	}
	return false
}

// Description returns the sentence for a code in a language: English, or an error with the code
// LanguageNotFound for any other. The empty language is English.
func (c Code) Description(language string) (string, error) {
	if !speaks(language) {
		return "", Errorf(LanguageNotFound, "there are no texts in the language %q", language)
	}
	return c.Message(), nil
}

// Description is the same for the place of an error.
func (c Context) Description(language string) (string, error) {
	if !speaks(language) {
		return "", Errorf(LanguageNotFound, "there are no texts in the language %q", language)
	}
	return c.Message(), nil
}

// protocolOf returns what an error's file was fetched or sent by, as BITS names it: "http", "file",
// or empty if the error is not about a protocol.
func protocolOf(c Context, file string) string {
	switch c {
	case ContextRemoteFile, ContextGeneralTransport, ContextRemoteApplication, ContextServerCertificateCallback:
	default:
		return ""
	}
	u, err := url.Parse(file)
	switch {
	case err != nil || file == "":
		return ""
	case u.Scheme == "http" || u.Scheme == "https" || u.Scheme == "s3":
		return "http"
	case u.Scheme == "file" || strings.HasPrefix(file, "/"):
		return "file"
	}
	return ""
}

// GetFile returns the URL or path that the error is about; an error with the code FileNotAvailable if
// it is about none.
func (i *ErrorInfo) GetFile() (string, error) {
	if i.File == "" {
		return "", Errorf(FileNotAvailable, "the error is not about a file")
	}
	return i.File, nil
}

// GetProtocol returns "http" or "file"; an error with the code ProtocolNotAvailable if the error is
// not about a protocol.
func (i *ErrorInfo) GetProtocol() (string, error) {
	if i.Protocol == "" {
		return "", Errorf(ProtocolNotAvailable, "the error is not about a protocol")
	}
	return i.Protocol, nil
}

// ErrorText is a code, or a code and a context, in words.
type ErrorText struct {
	Code           string  `json:"code" doc:"BITS name"`
	HResult        string  `json:"hresult" doc:"BITS value"`
	Message        string  `json:"message" doc:"A sentence for people"`
	Hint           string  `json:"hint" doc:"What to do about it"`
	Context        Context `json:"context"`
	ContextMessage string  `json:"context_message" doc:"A sentence that says where such an error occurs"`
}
