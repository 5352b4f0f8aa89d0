// Opening and loading models for a command, with bars on stderr while files download and weights load.
import type { DownloadProgress, FileSource } from "../io/index.ts";
import { openSource } from "../io/index.ts";
import type { TextModel } from "../text-model.ts";
import { loadTextModel } from "../text-model.ts";
import { noteThreads } from "./device.ts";
import type { LoadFlags } from "./options.ts";
import { defined } from "./options.ts";
import type { Bar } from "./progress.ts";
import { createBar } from "./progress.ts";

export interface LoadedModel {
  readonly mamba: TextModel;
  /** Wall time of opening the device and loading, downloads included. */
  readonly loadMs: number;
}

/** {@link loadTextModel} with what the person chose. */
export async function loadModel(
  flags: LoadFlags,
  { trainable = false }: { trainable?: boolean } = {},
): Promise<LoadedModel> {
  const started = performance.now();
  const loading = createBar("loading");
  try {
    const mamba = await loadTextModel(flags.model, {
      ...defined({ device: flags.device, threads: flags.threads, dtype: flags.dtype }),
      trainable,
      onDownload: showDownloads(),
      onProgress: (share) => loading.update(share),
    });
    noteThreads(mamba.backend, flags);
    return { mamba, loadMs: performance.now() - started };
  } finally {
    loading.end();
  }
}

/** {@link openSource} for a command that needs the files alone. */
export function openModel(nameOrFolder: string): Promise<FileSource> {
  return openSource(nameOrFolder, { onProgress: showDownloads() });
}

/** A bar for each file that downloads. */
function showDownloads(): (progress: DownloadProgress) => void {
  const bars = new Map<string, Bar>();
  return ({ file, loadedBytes, totalBytes }) => {
    const bar = bars.get(file) ?? createBar(file);
    bars.set(file, bar);
    bar.update(totalBytes > 0 ? loadedBytes / totalBytes : 0);
    if (loadedBytes === totalBytes) bar.end();
  };
}
