const fs = require('fs');
const child = require('child_process');
const again = child.execFileSync(process.execPath, ['-p', '1 + 1']).toString().trim();
console.log(`node ${process.versions.node} at ${process.execPath} in ${process.cwd()}, child says ${again}`);
fs.appendFileSync(process.env.GITHUB_OUTPUT, `said=hello ${process.env.INPUT_WHO}\n`);
fs.appendFileSync(process.env.GITHUB_STATE, 'word=remembered\n');
fetch(process.env.ACTIONS_RESULTS_URL).then(
  (answer) => console.log(`the services for jobs answer ${answer.status}`),
  (error) => console.log(`the services for jobs cannot be reached: ${error} ${error.cause}`));
