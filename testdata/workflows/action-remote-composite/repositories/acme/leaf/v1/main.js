console.log(`leaf of ${process.env.INPUT_FROM}`);
require("fs").appendFileSync(process.env.GITHUB_OUTPUT, "said=leaf\n");
