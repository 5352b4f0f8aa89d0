// Finds the entries of a PyTorch archive: a zip file whose entries are stored, not compressed, so that each is a range of bytes.
import { CheckpointError } from "../core/errors.ts";
import type { RandomAccessFile } from "./file-source.ts";
import { messageOf, quote } from "./text.ts";

const MOST_ENTRIES = 200_000;
/** The central directory is read whole; 64 MiB hold some 600,000 entries. */
const LARGEST_READ_BYTES = 64 * 2 ** 20;
const LOCAL_HEADER_BYTES = 30;
const LOCAL_HEADER_SIGNATURE = 0x04034b50;

/** An entry of the archive, of `size` bytes. */
export interface ZipEntry {
  readonly name: string;
  readonly size: number;
  /** Where its local header starts. */
  readonly headerOffset: number;
}

/** The entries by name. Throws CheckpointError when the archive is damaged, or has compressed, encrypted or double entries. */
export async function listZip(file: RandomAccessFile): Promise<Map<string, ZipEntry>> {
  // Loaded here, so that reading safetensors does not pay for it.
  const { Reader, ZipReader } = await import("@zip.js/zip.js/lib/zip-core-custom.js");
  class FileReader extends Reader<RandomAccessFile> {
    override size = file.size;
    override async readUint8Array(offset: number, length: number): Promise<Uint8Array> {
      if (length > LARGEST_READ_BYTES)
        throw new CheckpointError(
          `${file.name}: the archive's directory claims ${length} bytes. The file is damaged: download it again.`,
        );
      const bytes = new Uint8Array(Math.max(0, Math.min(length, file.size - offset)));
      await file.read(offset, bytes);
      return bytes;
    }
  }
  const entries = new Map<string, ZipEntry>();
  try {
    for await (const entry of new ZipReader(new FileReader(file)).getEntriesGenerator()) {
      const {
        filename: name,
        offset: headerOffset,
        compressedSize,
        uncompressedSize: size,
        encrypted,
        compressionMethod,
      } = entry;
      if (entries.size === MOST_ENTRIES)
        throw new CheckpointError(`${file.name}: more than ${MOST_ENTRIES} entries. Is this a checkpoint?`);
      if (entries.has(name))
        throw new CheckpointError(`${file.name}: two entries have the name ${quote(name)}. Refusing to choose.`);
      if (encrypted || compressionMethod !== 0 || compressedSize !== size) {
        throw new CheckpointError(
          `${file.name}: entry ${quote(name)} is compressed or encrypted; torch.save stores entries plainly. Save it again with torch.save, or convert it to safetensors.`,
        );
      }
      entries.set(name, { name, size, headerOffset });
    }
  } catch (error) {
    if (error instanceof CheckpointError) throw error;
    throw new CheckpointError(
      `${file.name}: the zip archive cannot be read: ${messageOf(error)}. The file is truncated or damaged: download it again.`,
      { cause: error },
    );
  }
  return entries;
}

/** Offset of an entry's first byte, read from its local header. Throws CheckpointError when there is no such header, or the data leaves the file. */
export async function findEntryData(file: RandomAccessFile, entry: ZipEntry): Promise<number> {
  const header = new Uint8Array(LOCAL_HEADER_BYTES);
  await file.read(entry.headerOffset, header);
  const view = new DataView(header.buffer);
  const start = entry.headerOffset + LOCAL_HEADER_BYTES + view.getUint16(26, true) + view.getUint16(28, true);
  if (view.getUint32(0, true) !== LOCAL_HEADER_SIGNATURE || start + entry.size > file.size) {
    throw new CheckpointError(
      `${file.name}: entry ${quote(entry.name)} is not where the archive's directory says. The file is damaged: download it again.`,
    );
  }
  return start;
}
