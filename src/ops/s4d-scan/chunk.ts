/** Steps between the states that are saved for the backward pass. Mirrors STEPS in kernels/assembly/s4d-scan.ts. */
export const CHUNK = 64;
