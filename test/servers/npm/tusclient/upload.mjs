// Uploads with tus-js-client: node upload.mjs JSON, where JSON is the package servers' TusUpload.
// It prints a JSON object: the upload's URL, and the requests that it took.
import fs from 'node:fs';
import {PassThrough} from 'node:stream';
import * as tus from 'tus-js-client';

const o = JSON.parse(process.argv[2]);
const requests = [];
let pauses = o.pauses ?? 0;
let upload;

// settle ends the program once everything that it does has come to an end.
function settle(error) {
  process.stdout.write(JSON.stringify({url: upload.url ?? '', requests, error: error ? String(error.message ?? error) : ''}) + '\n',
    () => process.exit(0));
}

// pause breaks the connections off in the middle of what they send, and goes on if o.again says so.
async function pause() {
  await upload.abort(o.terminate ?? false);
  if (!o.again) {
    settle(null);
    return;
  }
  upload.start();
}

const options = {
  endpoint: o.endpoint,
  headers: o.headers ?? {},
  metadata: o.name ? {filename: o.name, filetype: 'application/octet-stream'} : {},
  chunkSize: o.chunk || Infinity,
  parallelUploads: o.parallel || 1,
  uploadDataDuringCreation: o.atOnce ?? false,
  uploadLengthDeferred: o.deferred ?? false,
  overridePatchMethod: o.override ?? false,
  retryDelays: [0, 100, 500],
  onAfterResponse: (req, res) => {
    requests.push({method: req.getMethod(), url: req.getURL(), status: res.getStatus(), offset: req.getHeader('Upload-Offset') ?? ''});
  },
  onProgress: (sent, total) => {
    if (pauses > 0 && sent > 0 && sent < total) {
      pauses--;
      // Not within the callback, which the aborted request would run in.
      setImmediate(() => pause().catch(settle));
    }
  },
  onError: settle,
  onSuccess: () => settle(null),
};
if (o.storage) {
  options.urlStorage = new tus.FileUrlStorage(o.storage);
}
// A stream whose length the client could find out is not one whose length comes later.
const source = fs.createReadStream(o.file);
upload = new tus.Upload(o.deferred ? source.pipe(new PassThrough()) : source, options);
if (o.storage) {
  const before = await upload.findPreviousUploads();
  if (before.length > 0) {
    upload.resumeFromPreviousUpload(before[0]);
  }
}
upload.start();
