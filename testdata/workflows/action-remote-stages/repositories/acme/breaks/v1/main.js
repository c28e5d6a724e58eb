console.log("main of breaks")
