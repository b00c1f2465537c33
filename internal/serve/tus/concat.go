package tus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/ebbtransfer/ebb/internal/serve/front"
	"github.com/ebbtransfer/ebb/internal/serve/session"
)

// partState is kept with the first part of an upload that was made of parts: should the answer be
// lost, the client asks again, and must not find that its own file is in its way.
type partState struct {
	Final string `json:"final"` // session that was made of this part and others
}

// mostParts is how many parts an upload may be made of.
const mostParts = 1000

// concatenate makes an upload of parts.
func (h handler) concatenate(w http.ResponseWriter, r *http.Request, spec session.Spec, c concat) error {
	if len(c.parts) > mostParts {
		return refuse(http.StatusBadRequest, "Upload-Concat names too many parts")
	}
	ids := make([]string, len(c.parts))
	for i, path := range c.parts {
		var ok bool
		if ids[i], ok = front.SessionID(h.Prefix, path); !ok {
			return refuse(http.StatusBadRequest, "Upload-Concat names what is not an upload here")
		}
		if slices.Contains(ids[:i], ids[i]) { // a short request should not fill the storage
			return refuse(http.StatusBadRequest, "Upload-Concat names a part twice")
		}
	}
	id, err := h.final(r, spec, ids)
	if err != nil {
		return err
	}
	if err := h.publish(r, id); err != nil {
		return err
	}
	// The file has its own copy. Were the parts to stay until they expire, every upload in parts
	// would take its room twice and count as many.
	for _, id := range ids {
		if err := h.useUp(r, id); err != nil { // the file is there all the same
			h.Log.WarnContext(r.Context(), "a part of an upload stays until it expires", "session", id, "error", err)
		}
	}
	w.Header().Set("Location", front.Location(h.Prefix, front.SessionPath(h.Prefix, id)))
	w.WriteHeader(http.StatusCreated)
	return nil
}

// publish makes the file of an upload that was made of parts.
func (h handler) publish(r *http.Request, id string) error {
	ctx, s, err := front.Acquire(h.Prefix, r, id, protocol)
	if err != nil {
		return err
	}
	defer s.Release()
	if err := finish(ctx, s); err != nil {
		return errors.Join(err, s.Remove(context.WithoutCancel(ctx)))
	}
	return nil
}

// useUp gives up the bytes of a part.
func (h handler) useUp(r *http.Request, id string) error {
	ctx, s, err := front.Acquire(h.Prefix, r, id, protocol)
	if errors.Is(err, session.ErrNotFound) {
		return nil // its client deleted it meanwhile
	}
	if err != nil {
		return err
	}
	defer s.Release()
	return s.Publish(ctx)
}

// checkPart refuses what an upload cannot be made of.
func (h handler) checkPart(r *http.Request, id string) error {
	_, s, err := front.Acquire(h.Prefix, r, id, protocol)
	if err != nil {
		return err
	}
	defer s.Release()
	switch info := s.Info(); {
	case info.Metadata[concatHeader] != "partial":
		return refuse(http.StatusBadRequest, "an upload is made of partial ones")
	case info.Published:
		return refuse(http.StatusGone, "a part was used for another upload already")
	case !complete(info):
		return refuse(http.StatusBadRequest, "a part is not complete yet")
	}
	return nil
}

// final returns the session that is made of the parts ids, and makes it unless it was made before.
func (h handler) final(r *http.Request, spec session.Spec, ids []string) (string, error) {
	if id, err := h.finalOf(r, ids[0], spec, ""); id != "" || err != nil {
		return id, err
	}
	for _, id := range ids {
		if err := h.checkPart(r, id); err != nil {
			return "", err
		}
	}
	// Copying goes on if the client gives up waiting: it asks again, and then it is done.
	ctx, cancel := session.Outlive(r.Context())
	defer cancel()
	info, err := h.Store.Concat(ctx, spec, ids)
	if err != nil {
		return "", err
	}
	return h.finalOf(r, ids[0], spec, info.ID)
}

// finalOf returns the upload that spec asks for if one was made with the part id. If not, made is
// it from now on.
func (h handler) finalOf(r *http.Request, id string, spec session.Spec, made string) (string, error) {
	ctx, s, err := front.Acquire(h.Prefix, r, id, protocol)
	if err != nil {
		return "", err
	}
	defer s.Release()
	var state partState
	if len(s.Info().State) > 0 {
		if err := json.Unmarshal(s.Info().State, &state); err != nil {
			return "", fmt.Errorf("read the state of the part %s: %w", id, err)
		}
	}
	if other, err := h.asked(r, state.Final, spec); err != nil || other != "" || made == "" {
		if err == nil && made != "" && made != other {
			err = h.forget(r, made) // two requests made it at the same time
		}
		return other, err
	}
	raw, err := json.Marshal(partState{Final: made})
	if err != nil {
		return "", err
	}
	return made, s.SetState(ctx, raw)
}

// asked returns id if it is an upload as spec asks for, else "".
func (h handler) asked(r *http.Request, id string, spec session.Spec) (string, error) {
	if id == "" {
		return "", nil
	}
	_, s, err := front.Acquire(h.Prefix, r, id, protocol)
	if errors.Is(err, session.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer s.Release()
	if info := s.Info(); info.Target != spec.Target || !maps.Equal(info.Metadata, spec.Metadata) {
		return "", nil
	}
	return id, nil
}

func (h handler) forget(r *http.Request, id string) error {
	ctx, s, err := front.Acquire(h.Prefix, r, id, protocol)
	if err != nil {
		return err
	}
	defer s.Release()
	return s.Remove(ctx)
}
