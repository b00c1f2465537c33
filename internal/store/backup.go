package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// BackupName is the file in the store's directory that holds the last backup.
const BackupName = "backup.db"

// Backup writes a copy of the store beside it, in place of the last one. It does nothing if no
// job or file changed since the last one was made, and as long as a store that was set aside
// lies beside that: then it is what Restore brings back. It ends early, with an error, when ctx
// does.
func (s *Store) Backup(ctx context.Context) error {
	if err := s.flush(); err != nil {
		return err
	}
	name := filepath.Join(s.dir, BackupName)
	if _, err := os.Stat(name); err == nil && len(Aside(s.dir)) > 0 {
		return nil
	}
	now, err := s.db.applied()
	if err != nil {
		return err
	}
	if _, err := os.Stat(name); err == nil {
		if old, err := openDatabase(name); err == nil {
			then, err := old.applied()
			old.close()
			if err == nil && then == now {
				return nil
			}
		}
	}
	tmp := name + ".tmp"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	// SQLite would make it readable for others, who must not see what is in the jobs' headers.
	if err := os.WriteFile(tmp, nil, 0o600); err != nil {
		return err
	}
	if _, err := s.db.sql.ExecContext(ctx, "VACUUM INTO ?", tmp); err != nil {
		return fmt.Errorf("back up the job store: %w", err)
	}
	for _, step := range []func() error{
		func() error { return syncPath(tmp) },
		func() error { return os.Rename(tmp, name) },
		func() error { return syncPath(s.dir) },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("back up the job store: %w", err)
		}
	}
	return nil
}

// Restore puts the backup in dir in the place of the present store, which is set aside. It
// returns the time of the backup and where the present store went. Nothing may have dir open.
func Restore(dir string, now time.Time) (made time.Time, aside string, err error) {
	backup := filepath.Join(dir, BackupName)
	st, err := os.Stat(backup)
	if err != nil {
		return made, "", fmt.Errorf("there is no backup: %w", err)
	}
	db, err := openDatabase(backup)
	if err != nil {
		return made, "", fmt.Errorf("the backup is damaged: %w", err)
	}
	if err := db.close(); err != nil {
		return made, "", err
	}
	aside, err = SetAside(dir, now)
	if err != nil {
		return made, aside, err
	}
	if err := os.Rename(backup, filepath.Join(dir, databaseName)); err != nil {
		return made, aside, err
	}
	return st.ModTime(), aside, syncPath(dir)
}

// RestoreAside puts a store that was set aside, named by its database, back in its place: one
// that was made by a newer version, once that version runs again. The present store is set aside
// in turn.
func RestoreAside(dir, database string, now time.Time) (aside string, err error) {
	suffix, ok := strings.CutPrefix(filepath.Base(database), databaseName+asideSuffix)
	if !ok || filepath.Clean(filepath.Dir(database)) != filepath.Clean(dir) {
		return "", fmt.Errorf("%s is not a job store that was set aside in %s", database, dir)
	}
	if _, err := os.Stat(database); err != nil {
		return "", err
	}
	if aside, err = SetAside(dir, now); err != nil {
		return aside, err
	}
	for _, name := range storeFiles {
		name = filepath.Join(dir, name)
		if err := os.Rename(name+asideSuffix+suffix, name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return aside, err
		}
	}
	return aside, syncPath(dir)
}

func syncPath(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
