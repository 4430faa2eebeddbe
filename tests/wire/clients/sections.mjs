// The twin of sections.py: runs every section, whatever the others do, and prints one JSON object on the last line.
export async function report(sections) {
  const outcome = {};
  for (const [name, section] of Object.entries(sections)) {
    const [told] = await Promise.allSettled([Promise.resolve().then(section)]);
    outcome[name] =
      told.status === "fulfilled" ? { facts: told.value ?? null } : { failed: String(told.reason?.stack ?? told.reason) };
  }
  console.log(JSON.stringify(outcome));
}
