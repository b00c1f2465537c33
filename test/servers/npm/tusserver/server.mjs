// A tus server on 127.0.0.1 that keeps its files in a directory: node server.mjs DIRECTORY PORT
import {FileStore} from '@tus/file-store';
import {Server} from '@tus/server';

const [directory, port] = process.argv.slice(2);
const server = new Server({path: '/files', datastore: new FileStore({directory}), relativeLocation: true});
server.listen({host: '127.0.0.1', port: Number(port)});
