console.log('post always of ' + process.env.GITHUB_JOB);
