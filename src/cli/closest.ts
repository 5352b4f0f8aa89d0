// "Did you mean ...?": the known name that is nearest to a mistyped one.

/** The name with the fewest edits from `word`, if they are few for its length. */
export function closestName(word: string, names: readonly string[]): string | undefined {
  const most = Math.max(1, Math.floor(word.length / 3));
  const ranked = names.map((name) => ({ name, edits: editDistance(word.toLowerCase(), name.toLowerCase()) }));
  const [best] = ranked.sort((a, b) => a.edits - b.edits);
  return best && best.edits <= most ? best.name : undefined;
}

/** Levenshtein's distance: letters to insert, delete or replace. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++)
      next.push(Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1)));
    row = next;
  }
  return row[b.length];
}
