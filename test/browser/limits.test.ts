// Every kernel within what browsers offer, which is less than Dawn in Node: Chromium gives out limits by tiers.
import { expect, it } from "vitest";
import { KERNEL_FAMILIES } from "../../src/backends/webgpu/kernel.ts";
// oxlint-disable-next-line import/no-unassigned-import -- defines all kernels
import "../../src/index.ts";

/** maxStorageBuffersPerShaderStage of a desktop's browser; 8 is what every WebGPU device has. */
const MOST_BUFFERS = 10;

it("binds no more buffers than a browser's adapter has", () => {
  const kernels = KERNEL_FAMILIES.flatMap((family) => family.samples.map((spec) => family(spec)));
  expect(kernels.length).toBeGreaterThan(50);
  const tooMany = kernels.filter(({ buffers }) => buffers.length > MOST_BUFFERS);
  expect(tooMany.map(({ name, buffers }) => `${name}: ${buffers.length}`)).toEqual([]);
});
