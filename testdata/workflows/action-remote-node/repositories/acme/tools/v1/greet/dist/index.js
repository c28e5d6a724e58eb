const lib = require("../../lib");
console.log(`v1 greets ${process.env.INPUT_WHO}: ${lib.name} of ${process.env.GITHUB_ACTION_REPOSITORY}@${process.env.GITHUB_ACTION_REF}`);
require("fs").appendFileSync(process.env.GITHUB_OUTPUT, "version=1\n");
