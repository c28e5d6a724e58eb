console.log("::add-mask::s3cret-of-action");
console.log("::error file=a.js,line=3::from node s3cret-of-action");
console.log("later s3cret-of-action");
require("fs").appendFileSync(process.env.GITHUB_STEP_SUMMARY, "first s3cret-of-action\n");
require("fs").appendFileSync(process.env.GITHUB_ENV, "FROM_ACTION=set by node\n");
